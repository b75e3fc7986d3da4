{{- $name := printf "%s-prometheus" (include "fullname" .) }}
{{- $spec := .Values.prometheus.prometheusSpec }}
{{- $own := dict "matchLabels" (dict "release" .Release.Name) }}
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
  - {apiGroups: [""], resources: [nodes, nodes/metrics, services, endpoints, pods], verbs: [get, list, watch]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
  - {nonResourceURLs: [/metrics, /metrics/cadvisor], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels: {{ include "labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $name }}}
subjects: [{kind: ServiceAccount, name: {{ $name }}, namespace: {{ .Release.Namespace }}}]
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{ include "labels" . | nindent 4 }}
spec:
  selector: {app.kubernetes.io/name: prometheus, operator.prometheus.io/name: {{ $name }}}
  ports: [{name: http-web, port: 9090, targetPort: 9090}]
---
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{ include "labels" . | nindent 4 }}
spec:
  replicas: 1
  version: {{ regexReplaceAll "^.*:" $spec.image "" }}
  image: {{ $spec.image }}
  imagePullPolicy: IfNotPresent
  serviceAccountName: {{ $name }}
  scrapeInterval: {{ $spec.scrapeInterval }}
  evaluationInterval: {{ $spec.evaluationInterval }}
  retention: {{ $spec.retention }}
  {{- with $spec.retentionSize }}
  retentionSize: {{ . }}
  {{- end }}
  resources: {{ toJson $spec.resources }}
  {{- with $spec.storageSpec }}
  storage: {{ toJson . }}
  {{- end }}
  serviceMonitorSelector: {{ ternary $own dict $spec.serviceMonitorSelectorNilUsesHelmValues | toJson }}
  serviceMonitorNamespaceSelector: {}
  podMonitorSelector: {{ ternary $own dict $spec.podMonitorSelectorNilUsesHelmValues | toJson }}
  podMonitorNamespaceSelector: {}
  probeSelector: {{ ternary $own dict $spec.probeSelectorNilUsesHelmValues | toJson }}
  probeNamespaceSelector: {}
  ruleSelector: {{ ternary $own dict $spec.ruleSelectorNilUsesHelmValues | toJson }}
  ruleNamespaceSelector: {}
  scrapeConfigSelector: {{ ternary $own dict $spec.scrapeConfigSelectorNilUsesHelmValues | toJson }}
  scrapeConfigNamespaceSelector: {}
  securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: 2000, runAsNonRoot: true}
  {{- if .Values.alertmanager.enabled }}
  alerting:
    alertmanagers: [{name: {{ include "fullname" . }}-alertmanager, namespace: {{ .Release.Namespace }}, port: http-web}]
  {{- end }}
