{{- define "opsy.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}

{{- define "opsy.account" -}}
{{ .Values.serviceAccount.name | default (include "opsy.name" .) }}
{{- end -}}

{{- define "opsy.image" -}}
{{ required "image.repository: where is the agent's image?" .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "opsy.selector" -}}
app.kubernetes.io/name: opsy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "opsy.labels" -}}
{{ include "opsy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* The rules of files/role.yaml: those of the Lease, or all others. Secrets may be limited
     to some; those of all namespaces are never read unnamed. */}}
{{- define "opsy.rules" -}}
{{- $rules := list -}}
{{- range .root.Files.Get "files/role.yaml" | fromYamlArray -}}
{{- if eq (has "coordination.k8s.io" .apiGroups) $.lease -}}
{{- if and (has "secrets" .resources) $.root.Values.notifications.secrets -}}
{{- $rules = append $rules (set . "resourceNames" $.root.Values.notifications.secrets) -}}
{{- else if and (has "secrets" .resources) $.root.Values.allNamespaces -}}
{{- else -}}
{{- $rules = append $rules . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end -}}

{{/* The rules of files/role-builds.yaml. What is read for its label matters only with several namespaces; Secrets may be
     limited to some, and those of all namespaces are never read unnamed. */}}
{{- define "opsy.buildRules" -}}
{{- $rules := list -}}
{{- $values := .root.Values -}}
{{- $several := or $values.allNamespaces (gt (len (uniq $values.namespaces)) 1) -}}
{{- range .root.Files.Get "files/role-builds.yaml" | fromYamlArray -}}
{{- if and (or (has "secrets" .resources) (has "serviceaccounts" .resources)) (not $several) -}}
{{- else if and (has "secrets" .resources) $values.builds.secrets -}}
{{- $rules = append $rules (set . "resourceNames" $values.builds.secrets) -}}
{{- else if and (has "secrets" .resources) $values.allNamespaces (not $values.builds.namespace) -}}
{{- else -}}
{{- $rules = append $rules . -}}
{{- end -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end -}}

{{- define "opsy.subject" -}}
- kind: ServiceAccount
  name: {{ include "opsy.account" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
