package apiserver

import (
	"context"
	"net/http"
	"strings"

	"workshop/mini-k8s/api"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
)

// reviewRoutes serves what callers create to be told who they are and what they may do: `kubectl auth whoami` and `can-i`.
//
// In Kubernetes: also reviews of others than the caller.
func (s *Server) reviewRoutes() {
	for _, kind := range api.Reviews {
		s.handle("create", kind.Path("", "", ""), kind, "", s.review)
	}
	// kubectl 1.27 asks in this version, which differs in its name only.
	s.handle("create", "/apis/authentication.k8s.io/v1beta1/selfsubjectreviews", api.Reviews[0], "", s.review)
}

// review answers with what was sent, and its status.
func (s *Server) review(w http.ResponseWriter, r *request) error {
	object := r.kind.New()
	err := r.readInto(object, "a "+r.kind.Kind)
	if err != nil {
		return err
	}
	switch review := object.(type) {
	case *authenticationv1.SelfSubjectReview:
		review.Status.UserInfo.Username = string(r.user)
	case *authorizationv1.SelfSubjectRulesReview:
		review.Status = s.rules(r.Context(), r.user, review.Spec.Namespace)
	case *authorizationv1.SelfSubjectAccessReview:
		do, url, status := review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes, &review.Status
		if (do == nil) == (url == nil) {
			return badRequest("spec: exactly one of resourceAttributes and nonResourceAttributes is required")
		}
		if url != nil {
			status.Allowed = r.user.rules() || url.Verb == "get" // nobody is refused the routes that are not to resources
		} else if status.Allowed, err = s.may(r.Context(), r.user, *do); err != nil {
			status.Reason = err.Error() // there is no such pod, for example
		}
	}
	return writeJSON(w, http.StatusCreated, object)
}

// rules lists what a user may do, by asking for all that discovery tells of.
func (s *Server) rules(ctx context.Context, user User, namespace string) (status authorizationv1.SubjectRulesReviewStatus) {
	status.NonResourceRules = []authorizationv1.NonResourceRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"*"}}}
	if user.Node() != "" {
		status.Incomplete = true
		status.EvaluationError = "a node may do more to what has its name, to the pods that are bound to it, and with their Secrets"
	}
	for _, gv := range groupVersions() {
		for _, resource := range s.resourcesOf(gv).APIResources {
			rule := authorizationv1.ResourceRule{APIGroups: []string{gv.Group}, Resources: []string{resource.Name}}
			do := authorizationv1.ResourceAttributes{Namespace: namespace, Group: gv.Group}
			do.Resource, do.Subresource, _ = strings.Cut(resource.Name, "/")
			for _, do.Verb = range resource.Verbs {
				if allowed, _ := s.may(ctx, user, do); allowed {
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
