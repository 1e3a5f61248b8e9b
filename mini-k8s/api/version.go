package api

// KubernetesVersion is what the API server and the kubelets report. Its minor version is that of the Kubernetes API
// that they keep to: kubectl warns when its own is more than one away.
const KubernetesVersion = "v1.33.0+mini-k8s"
