package access

import (
	"context"
	"strings"

	"workshop/mini-k8s/api"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Review sets the status of what users create to be told who they are and what they may do: `kubectl auth whoami` and
// `can-i`. The resources are all that there are.
//
// In Kubernetes: also reviews of others than the caller.
func (c *Control) Review(ctx context.Context, user User, object api.Object, resources []metav1.APIResourceList) (err error) {
	switch review := object.(type) {
	case *authenticationv1.SelfSubjectReview:
		review.Status.UserInfo.Username = string(user)
	case *authorizationv1.SelfSubjectRulesReview:
		review.Status = c.rules(ctx, user, review.Spec.Namespace, resources)
	case *authorizationv1.SelfSubjectAccessReview:
		do, url, status := review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes, &review.Status
		if (do == nil) == (url == nil) {
			return apierrors.NewBadRequest("spec: exactly one of resourceAttributes and nonResourceAttributes is required")
		}
		if url != nil {
			status.Allowed = user.rules() || url.Verb == "get" // nobody is refused the routes that are not to resources
		} else if status.Allowed, err = c.May(ctx, user, *do); err != nil {
			status.Reason = err.Error() // there is no such pod, for example
		}
	}
	return nil
}

// rules lists what a user may do, by asking for each resource.
func (c *Control) rules(ctx context.Context, user User, namespace string, all []metav1.APIResourceList) (status authorizationv1.SubjectRulesReviewStatus) {
	status.NonResourceRules = []authorizationv1.NonResourceRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"*"}}}
	if user.Node() != "" {
		status.Incomplete = true
		status.EvaluationError = "a node may do more to what has its name, to the pods that are bound to it, and with their Secrets"
	}
	for _, list := range all {
		gv, _ := schema.ParseGroupVersion(list.GroupVersion)
		for _, resource := range list.APIResources {
			rule := authorizationv1.ResourceRule{APIGroups: []string{gv.Group}, Resources: []string{resource.Name}}
			do := Attributes{Namespace: namespace, Group: gv.Group}
			do.Resource, do.Subresource, _ = strings.Cut(resource.Name, "/")
			for _, do.Verb = range resource.Verbs {
				if allowed, _ := c.May(ctx, user, do); allowed {
					rule.Verbs = append(rule.Verbs, do.Verb)
				}
			}
			if len(rule.Verbs) > 0 {
				status.ResourceRules = append(status.ResourceRules, rule)
			}
		}
	}
	return status
}
