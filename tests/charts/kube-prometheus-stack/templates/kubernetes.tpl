{{- $name := printf "%s-kube-state-metrics" (include "fullname" .) }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{ include "labels" . | nindent 4 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  labels: {{ include "labels" . | nindent 4 }}
rules:
  - {apiGroups: [""], resources: [pods], verbs: [list, watch]}
  - {apiGroups: [apps], resources: [deployments], verbs: [list, watch]}
  - {apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels: {{ include "labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $name }}}
subjects: [{kind: ServiceAccount, name: {{ $name }}, namespace: {{ .Release.Namespace }}}]
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{ include "labels" . | nindent 4 }}
spec:
  selector: {matchLabels: {app: {{ $name }}}}
  template:
    metadata: {labels: {app: {{ $name }}}}
    spec:
      serviceAccountName: {{ $name }}
      securityContext: {runAsNonRoot: true, runAsUser: 65534, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: kube-state-metrics
          image: {{ index .Values "kube-state-metrics" "image" }}
          imagePullPolicy: IfNotPresent
          args: ["--resources=pods,deployments,horizontalpodautoscalers"]
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
          resources: {requests: {cpu: 10m, memory: 32Mi}}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{ include "labels" . | nindent 4 }}
    app: {{ $name }}
spec:
  selector: {app: {{ $name }}}
  ports: [{name: http, port: 8080, targetPort: http}]
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{ include "labels" . | nindent 4 }}
spec:
  selector: {matchLabels: {app: {{ $name }}}}
  endpoints: [{port: http, honorLabels: true}]
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "fullname" . }}-kubelet
  namespace: {{ .Release.Namespace }}
  labels: {{ include "labels" . | nindent 4 }}
spec:
  namespaceSelector: {matchNames: [kube-system]}
  selector: {matchLabels: {app.kubernetes.io/name: kubelet}}
  endpoints:
    - port: https-metrics
      scheme: https
      path: /metrics/cadvisor
      honorLabels: true
      honorTimestamps: false
      tlsConfig: {insecureSkipVerify: true}
      bearerTokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
      metricRelabelings: [{sourceLabels: [__name__], regex: "container_(cpu_usage_seconds_total|memory_working_set_bytes)", action: keep}]
