package addresses

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// claim is what stands in a claim.
type claim struct {
	Namespace, Name string
	UID             types.UID
	At              time.Time
}

func ipKey(ip string) string      { return "serviceips/" + ip }
func portKey(number int32) string { return fmt.Sprint("servicenodeports/", number) }

// claimKeys returns the keys of the claims for the addresses that a service has.
func claimKeys(s *corev1.Service) (keys []string) {
	if api.HasClusterIP(&s.Spec) && s.Spec.ClusterIP != "" {
		keys = append(keys, ipKey(s.Spec.ClusterIP))
	}
	for _, port := range s.Spec.Ports {
		if api.HasNodePorts(&s.Spec) && port.NodePort != 0 {
			keys = append(keys, portKey(port.NodePort))
		}
	}
	return keys
}

// claims are those of a service that is about to be written.
type claims struct {
	*Allocator
	Change
	ctx        context.Context
	value      []byte                  // of those that are made
	mine, made map[string]store.Object // by key: all, and those that were made for this write
	wrong      field.ErrorList         // the addresses that cannot be had
}

// find finds those that the service has already.
func (c *claims) find() (err error) {
	if c.value, err = json.Marshal(claim{c.Service.Namespace, c.Service.Name, c.Service.UID, time.Now()}); err != nil {
		return err
	}
	var before corev1.Service
	if err := json.Unmarshal(c.Old.Value, &before); err != nil && c.Old.Revision != 0 {
		return fmt.Errorf("decode stored Service: %w", err)
	}
	for _, key := range claimKeys(&before) {
		var by claim
		if held, err := c.Store.Get(c.ctx, key); err == nil && json.Unmarshal(held.Value, &by) == nil && by.UID == c.Service.UID {
			c.mine[key] = held
		}
	}
	return nil
}

func (c *claims) has(key string) bool {
	_, has := c.mine[key]
	return has
}

// take claims an address, or tells that another service has it.
func (c *claims) take(key string) (free bool, err error) {
	if c.has(key) {
		return true, nil
	}
	held, err := c.Store.Get(c.ctx, key)
	if err == nil {
		free, err = c.void(held)
	} else if errors.Is(err, store.ErrNotFound) {
		free, err = true, nil
	}
	if !free || err != nil {
		return false, err
	}
	made := store.Object{Key: key}
	switch {
	case c.DryRun:
	case held.Revision == 0:
		made.Revision, err = c.Store.Create(c.ctx, key, c.value, c.Who)
	default:
		made.Revision, err = c.Store.Update(c.ctx, key, c.value, held.Revision, c.Who)
	}
	if refused(err) { // another was faster
		return false, nil
	} else if err != nil {
		return false, err
	}
	if c.mine[key] = made; !c.DryRun {
		c.made[key] = made
	}
	return true, nil
}

// refused reports whether the store has refused a write: then it was not done.
func refused(err error) bool {
	return errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound)
}

// void reports whether a claim is for nothing.
func (c *claims) void(held store.Object) (bool, error) {
	var by claim
	if err := json.Unmarshal(held.Value, &by); err != nil {
		return false, fmt.Errorf("decode the claim of %s: %w", held.Key, err)
	}
	if time.Since(by.At) < claimLife {
		return false, nil
	}
	service, err := c.Read(c.ctx, by.Namespace, by.Name)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return err == nil && !slices.Contains(claimKeys(service), held.Key), err
}

// giveBack deletes claims, unless others have taken them over. One that stays after a failure will be found to be void.
func (c *claims) giveBack(claims map[string]store.Object) {
	for key, one := range claims {
		c.Store.Delete(context.WithoutCancel(c.ctx), key, one.Revision, c.Who)
	}
}
