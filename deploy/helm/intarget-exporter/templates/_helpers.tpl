{{- define "intarget-exporter.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "intarget-exporter.selector" -}}
app.kubernetes.io/name: intarget-exporter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "intarget-exporter.labels" -}}
{{ include "intarget-exporter.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
