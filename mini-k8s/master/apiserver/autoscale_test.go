package apiserver_test

import "testing"

func TestAutoscalersAreCreatedInTheirOldVersion(t *testing.T) {
	w := newWorld(t)
	const collection = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
	const old = collection + "?fieldManager=kubectl-autoscale"
	body := toJSON(`{metadata: {name: web}, spec: {scaleTargetRef: {kind: Deployment, name: web}, minReplicas: 1, maxReplicas: 3, targetCPUUtilizationPercentage: 50}}`)
	if o := w.post(old, body).ok().object(); o.APIVersion != "autoscaling/v1" || o.UID == "" || o.Spec["targetCPUUtilizationPercentage"] != 50.0 {
		t.Errorf("the answer is %+v", o)
	}
	o := w.get("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/web").ok().object()
	if metrics, _ := o.Spec["metrics"].([]any); o.APIVersion != "autoscaling/v2" || len(metrics) != 1 || o.Spec["maxReplicas"] != 3.0 {
		t.Errorf("stored is %+v", o)
	}
	w.post(old, body).fails(409, "AlreadyExists", "already exists")
	w.post(old, toJSON(`{metadata: {name: x}, spec: {scaleTargetRef: {kind: Deployment, name: web}, minReplicas: 3, maxReplicas: 1}}`)).fails(422, "Invalid", "spec.maxReplicas")
	w.post(old, `{"spec": 7}`).fails(400, "BadRequest", "a HorizontalPodAutoscaler")
	w.post(collection, body).fails(404, "NotFound", "write apiVersion autoscaling/v2")
	w.get(collection+"/web").fails(404, "NotFound", "write apiVersion autoscaling/v2")
}
