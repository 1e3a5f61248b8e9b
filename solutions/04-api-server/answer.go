package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"workshop/mini-k8s/api"
	"workshop/mini-k8s/master/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

const (
	maxWarning  = 512 // bytes of each
	maxWarnings = 32
)

// respond answers with an object as it is stored, or the part of it that the subresource shows.
func (r *request) respond(w http.ResponseWriter, code int, stored store.Object) error {
	for _, text := range r.warnings[:min(len(r.warnings), maxWarnings)] {
		// kubectl finds and prints them there (KEP-1693). Control characters alone are refused. A header has an end.
		if header, err := utilnet.NewWarningHeader(299, "", strings.ToValidUTF8(text[:min(len(text), maxWarning)], "")); err == nil {
			w.Header().Add("Warning", header)
		}
	}
	if r.subresource != "scale" {
		if r.wantsMetadata() {
			stored = withoutContent(stored)
		}
		return writeJSON(w, code, appendJSON(nil, stored))
	}
	object, err := decode(r.kind, stored)
	if err != nil {
		return err
	}
	return writeJSON(w, code, api.ScaleOf(object))
}

// writeJSON answers with an object, or with JSON that is there already.
func writeJSON(w http.ResponseWriter, code int, object any) error {
	data, ok := object.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(object); err != nil {
			return fmt.Errorf("encode the answer: %w", err)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(data)
	return nil
}

// explain says of which object the store speaks.
func (r *request) explain(err error) error {
	switch resource := r.kind.GroupResource(); {
	case errors.Is(err, store.ErrNotFound):
		return apierrors.NewNotFound(resource, r.name)
	case errors.Is(err, store.ErrExists):
		return apierrors.NewAlreadyExists(resource, r.name)
	case errors.Is(err, store.ErrConflict):
		return r.conflict("the object has been modified; please apply your changes to the latest version and try again")
	}
	return err
}

func (r *request) conflict(format string, values ...any) error {
	return apierrors.NewConflict(r.kind.GroupResource(), r.name, fmt.Errorf(format, values...))
}

func badRequest(format string, values ...any) error {
	return apierrors.NewBadRequest(fmt.Sprintf(format, values...))
}

// writeError answers with a Status. An error that is none is a failure of the server.
func writeError(w http.ResponseWriter, err error) {
	var status apierrors.APIStatus
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &status):
	case errors.As(err, &tooLarge):
		status = apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d bytes", tooLarge.Limit))
	case errors.Is(err, store.ErrCompacted):
		status = apierrors.NewResourceExpired(err.Error())
	case errors.Is(err, store.ErrFuture):
		ahead := apierrors.NewTimeoutError("Too large resource version: "+err.Error(), 1)
		ahead.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
		status = ahead
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		status = apierrors.NewTimeoutError(err.Error(), 1)
	default:
		slog.Error("request failed", "error", err)
		status = apierrors.NewInternalError(err)
	}
	body := statusOf(status)
	if body.Code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", fmt.Sprint(body.Details.RetryAfterSeconds)) // clients of Go do
	}
	writeJSON(w, int(body.Code), body)
}

func statusOf(err apierrors.APIStatus) metav1.Status {
	status := err.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return status
}
