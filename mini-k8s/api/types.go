package api

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// types says what the fields of the API hold: a row for each Go type, which counts wherever the type stands, in a pod, in the
// template of a Deployment, in each of its containers. How to read the words of a row says goType.
var types = tableOf(
	// Pods
	of(goType[corev1.Pod]{defaults: defaultPod}),
	of(goType[corev1.PodStatus]{fields: "phase=Pending"}),
	of(goType[corev1.PodSpec]{
		fields: "containers! restartPolicy=Always:Always|OnFailure|Never terminationGracePeriodSeconds=30:0.. activeDeadlineSeconds:1..2147483647 " +
			"dnsPolicy=ClusterFirst:ClusterFirstWithHostNet|ClusterFirst|Default|None schedulerName=default-scheduler securityContext={} " +
			"nodeName:subdomain hostname:label serviceAccountName:subdomain",
		check: checkPodSpec}),
	of(goType[corev1.PodTemplateSpec]{check: checkTemplate}),
	of(goType[corev1.PodReadinessGate]{fields: "conditionType!:qualified"}),
	of(goType[corev1.Toleration]{
		fields: "key:qualified value:labelValue operator:Equal|Exists effect:NoSchedule|PreferNoSchedule|NoExecute", check: checkToleration}),
	of(goType[corev1.PodSecurityContext]{fields: "runAsUser:id runAsGroup:id fsGroup:id supplementalGroups:id"}),

	// Containers
	of(goType[corev1.Container]{
		fields: "name!:label image!:trimmed imagePullPolicy:Always|IfNotPresent|Never " +
			"terminationMessagePath=/dev/termination-log terminationMessagePolicy=File",
		defaults: defaultContainer, check: checkContainer}),
	of(goType[corev1.ContainerPort]{fields: "name:port containerPort!:port hostPort:port hostIP:ip protocol=TCP:TCP|UDP"}),
	of(goType[corev1.SecurityContext]{fields: "runAsUser:id runAsGroup:id"}),
	of(goType[corev1.ResourceRequirements]{check: checkResources}),
	of(goType[corev1.ResourceList]{check: checkQuantities}),
	of(goType[corev1.EnvVar]{fields: "name!:variable", check: checkVariable}),
	of(goType[corev1.EnvVarSource]{oneOf: "fieldRef resourceFieldRef configMapKeyRef secretKeyRef"}),
	of(goType[corev1.EnvFromSource]{fields: "prefix:variable", oneOf: "configMapRef secretRef"}),
	of(goType[corev1.ObjectFieldSelector]{fields: "apiVersion=v1 fieldPath!", check: checkFieldRef}),
	of(goType[corev1.ResourceFieldSelector]{fields: "resource!:limits.cpu|limits.memory|requests.cpu|requests.memory"}),
	of(goType[corev1.ConfigMapKeySelector]{fields: "key!:key"}),
	of(goType[corev1.SecretKeySelector]{fields: "key!:key"}),
	of(goType[corev1.LocalObjectReference]{fields: "name!"}),

	// Probes and hooks
	of(goType[corev1.Probe]{
		fields: "initialDelaySeconds:0.. timeoutSeconds=1:0.. periodSeconds=10:0.. successThreshold=1:0.. failureThreshold=3:0.. " +
			"terminationGracePeriodSeconds:1.."}),
	of(goType[corev1.ProbeHandler]{oneOf: "exec httpGet tcpSocket"}),
	of(goType[corev1.LifecycleHandler]{oneOf: "exec httpGet sleep"}),
	of(goType[corev1.ExecAction]{fields: "command!"}),
	of(goType[corev1.HTTPGetAction]{fields: "path=/ port!:port scheme=HTTP:HTTP|HTTPS"}),
	of(goType[corev1.HTTPHeader]{fields: "name!:header"}),
	of(goType[corev1.TCPSocketAction]{fields: "port!:port"}),
	of(goType[corev1.SleepAction]{fields: "seconds:0.."}),

	// Volumes
	of(goType[corev1.Volume]{fields: "name!:label", defaults: defaultVolume, check: checkVolume}),
	of(goType[corev1.EmptyDirVolumeSource]{fields: "medium:Memory"}),
	of(goType[corev1.HostPathVolumeSource]{
		fields: "path!:absolute type=:DirectoryOrCreate|Directory|FileOrCreate|File|Socket|CharDevice|BlockDevice"}),
	of(goType[corev1.ConfigMapVolumeSource]{fields: "defaultMode=0644:mode"}),
	of(goType[corev1.SecretVolumeSource]{fields: "secretName! defaultMode=0644:mode"}),
	of(goType[corev1.KeyToPath]{fields: "key! path!:visible mode:mode"}),
	of(goType[corev1.VolumeMount]{fields: "name! mountPath! subPath:inside subPathExpr:inside", check: checkMount}),

	// Configuration
	of(goType[corev1.ConfigMap]{check: checkConfigMap}),
	of(goType[corev1.Secret]{fields: "type=Opaque", defaults: defaultSecret, check: checkSecret}),

	// Of the cluster
	of(goType[corev1.Namespace]{defaults: defaultNamespace}),
	of(goType[corev1.NamespaceStatus]{fields: "phase=Active"}),
	of(goType[corev1.Event]{check: checkEvent}),
	of(goType[corev1.NodeSpec]{fields: "podCIDR:cidr", check: checkTaints}),
	of(goType[corev1.Taint]{fields: "key!:qualified value:labelValue effect!:NoSchedule|PreferNoSchedule|NoExecute"}),
	of(goType[coordinationv1.LeaseSpec]{fields: "leaseDurationSeconds:1.. leaseTransitions:0.."}),

	// Services
	of(goType[corev1.ServiceSpec]{
		fields: "type=ClusterIP:ClusterIP|NodePort|ExternalName sessionAffinity=None:None|ClientIP " +
			"ipFamilies:IPv4 ipFamilyPolicy:SingleStack|PreferDualStack",
		defaults: defaultAddresses, check: checkService}),
	of(goType[corev1.ServicePort]{
		fields: "name:label port!:port targetPort!:port protocol=TCP:TCP|UDP", defaults: defaultTargetPort}),
	of(goType[corev1.EndpointAddress]{fields: "ip!:ipv4"}),
	of(goType[corev1.EndpointPort]{fields: "port!:port protocol=TCP:TCP|UDP"}),
	of(goType[discoveryv1.EndpointSlice]{fields: "addressType!:IPv4|FQDN", check: checkSlice}),
	of(goType[discoveryv1.Endpoint]{fields: "addresses!"}),
	of(goType[discoveryv1.EndpointPort]{fields: "name= port:port protocol=TCP:TCP|UDP"}),

	// Workloads
	of(goType[appsv1.DeploymentSpec]{
		fields: "replicas=1:0.. minReadySeconds:0.. revisionHistoryLimit=10:0.. progressDeadlineSeconds=600", check: checkDeployment}),
	of(goType[appsv1.DeploymentStrategy]{
		fields: "type=RollingUpdate:RollingUpdate|Recreate", defaults: defaultStrategy, check: checkStrategy}),
	of(goType[appsv1.RollingUpdateDeployment]{fields: "maxSurge=25% maxUnavailable=25%", check: checkRollingUpdate}),
	of(goType[appsv1.ReplicaSetSpec]{fields: "replicas=1:0.. minReadySeconds:0..", check: checkReplicaSet}),

	// Autoscalers
	of(goType[autoscalingv2.HorizontalPodAutoscalerSpec]{
		fields: "minReplicas=1:1..", defaults: defaultMetrics, check: checkAutoscaler}),
	of(goType[autoscalingv2.CrossVersionObjectReference]{fields: "kind!:Deployment|ReplicaSet name!"}),
	of(goType[autoscalingv2.MetricSpec]{fields: "type!:Resource resource!"}),
	of(goType[autoscalingv2.ResourceMetricSource]{fields: "name!:cpu|memory"}),
	of(goType[autoscalingv2.MetricTarget]{
		fields: "type!:Utilization|AverageValue averageUtilization:1..", oneOf: "averageUtilization averageValue", check: checkTarget}),
	of(goType[autoscalingv2.HorizontalPodAutoscalerBehavior]{defaults: DefaultScaling}),
	of(goType[autoscalingv2.HPAScalingRules]{fields: "stabilizationWindowSeconds:0..3600 selectPolicy:Max|Min|Disabled"}),
	of(goType[autoscalingv2.HPAScalingPolicy]{fields: "type!:Pods|Percent value!:1.. periodSeconds!:1..1800"}),
)
