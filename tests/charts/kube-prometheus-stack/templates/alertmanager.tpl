{{- if .Values.alertmanager.enabled }}
{{- $name := printf "%s-alertmanager" (include "fullname" .) }}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{ include "labels" . | nindent 4 }}
spec:
  selector: {app.kubernetes.io/name: alertmanager, alertmanager: {{ $name }}}
  ports: [{name: http-web, port: 9093, targetPort: 9093}]
---
apiVersion: monitoring.coreos.com/v1
kind: Alertmanager
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels: {{ include "labels" . | nindent 4 }}
spec:
  replicas: 1
  version: {{ regexReplaceAll "^.*:" .Values.alertmanager.alertmanagerSpec.image "" }}
  image: {{ .Values.alertmanager.alertmanagerSpec.image }}
  imagePullPolicy: IfNotPresent
  resources: {requests: {cpu: 10m, memory: 32Mi}}
  securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: 2000, runAsNonRoot: true}
{{- end }}
