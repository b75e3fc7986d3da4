{{- $name := printf "%s-operator" (include "fullname" .) }}
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
  - {apiGroups: [monitoring.coreos.com], resources: ["*"], verbs: ["*"]}
  - {apiGroups: [apps], resources: [statefulsets], verbs: ["*"]}
  - {apiGroups: [""], resources: [configmaps, secrets, services, services/finalizers, endpoints], verbs: ["*"]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: ["*"]}
  - {apiGroups: [""], resources: [pods], verbs: [list, delete]}
  - {apiGroups: [""], resources: [nodes, namespaces], verbs: [get, list, watch]}
  - {apiGroups: ["", events.k8s.io], resources: [events], verbs: [create, patch]}
  - {apiGroups: [storage.k8s.io], resources: [storageclasses], verbs: [get]}
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
        - name: operator
          image: {{ .Values.prometheusOperator.image }}
          imagePullPolicy: IfNotPresent
          args:
            - --kubelet-service=kube-system/{{ include "fullname" . }}-kubelet
            - --kubelet-endpoints=true
            - --kubelet-endpointslice=true
            - --prometheus-config-reloader={{ .Values.prometheusOperator.prometheusConfigReloader.image }}
            - --config-reloader-cpu-request=10m
            - --config-reloader-memory-request=16Mi
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
          resources: {requests: {cpu: 20m, memory: 32Mi}}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
