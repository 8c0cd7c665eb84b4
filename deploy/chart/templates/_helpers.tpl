{{- define "opsy.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}

{{/* Suffixes of up to 13 characters are appended to it. */}}
{{- define "opsy.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{ .Values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" }}
{{- end -}}

{{/* Objects of the whole cluster: no namespace and no name has a colon, so no two releases share one. */}}
{{- define "opsy.clusterName" -}}
opsy:{{ .Release.Namespace }}:{{ include "opsy.fullname" . }}
{{- end -}}

{{- define "opsy.account" -}}
{{ .Values.serviceAccount.name | default (include "opsy.fullname" .) }}
{{- end -}}

{{- define "opsy.lease" -}}
{{ .Values.leaseName | default (include "opsy.fullname" .) }}
{{- end -}}

{{- define "opsy.image" -}}
{{- $image := .Values.image -}}
{{- $tag := $image.tag | default (ternary "" .Chart.AppVersion (ne $image.digest "")) -}}
{{ required "image.repository: where is the agent's image?" $image.repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "opsy.selector" -}}
app.kubernetes.io/name: {{ include "opsy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "opsy.labels" -}}
{{- $own := include "opsy.selector" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- toYaml (merge $own .Values.commonLabels) -}}
{{- end -}}

{{- define "opsy.podLabels" -}}
{{- toYaml (merge (include "opsy.labels" . | fromYaml) .Values.podLabels) -}}
{{- end -}}

{{/* Labels, and annotations where there are any, of an object's metadata. Those of its own are `labels` and
     `annotations`; `aggregate` are the ClusterRoles that Kubernetes adds its rules to. */}}
{{- define "opsy.metadata" -}}
{{- $labels := merge (include "opsy.labels" .root | fromYaml) (.labels | default dict) -}}
{{- range .aggregate -}}
{{- $_ := set $labels (printf "rbac.authorization.k8s.io/aggregate-to-%s" .) "true" -}}
{{- end -}}
labels: {{- toYaml $labels | nindent 2 }}
{{- with merge (deepCopy (.annotations | default dict)) .root.Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A Role's name in a namespace: in one that is not the release's own, releases of the same name may meet. */}}
{{- define "opsy.roleName" -}}
{{- $name := include "opsy.fullname" .root -}}
{{- ternary $name (printf "%s:%s" .root.Release.Namespace $name) (eq .namespace .root.Release.Namespace) -}}
{{- end -}}

{{/* Secrets that the agent uses itself, so that no build is given them: those that its pod names, and those it reads to
     notify people. */}}
{{- define "opsy.ownSecrets" -}}
{{- $own := concat (list .Values.repo.credentials.secret .Values.repo.signing.secret .Values.webhook.secret) .Values.ownSecrets .Values.notifications.secrets -}}
{{- range .Values.env -}}
{{- $own = append $own (dig "valueFrom" "secretKeyRef" "name" "" .) -}}
{{- end -}}
{{- range .Values.envFrom -}}
{{- $own = append $own (dig "secretRef" "name" "" .) -}}
{{- end -}}
{{- range .Values.extraVolumes -}}
{{- $own = append $own (dig "secret" "secretName" "" .) -}}
{{- range dig "projected" "sources" list . -}}
{{- $own = append $own (dig "secret" "name" "" .) -}}
{{- end -}}
{{- end -}}
{{- without $own "" | uniq | join "," -}}
{{- end -}}

{{/* A map of namespaces and globs, as the flags take it. */}}
{{- define "opsy.fence" -}}
{{- $rules := list -}}
{{- range $namespace, $globs := . -}}
{{- range $globs -}}
{{- $rules = append $rules (printf "%s=%s" $namespace .) -}}
{{- end -}}
{{- end -}}
{{- join "," $rules -}}
{{- end -}}

{{/* A map of prefixes, as the flag takes it. */}}
{{- define "opsy.rewrites" -}}
{{- $rules := list -}}
{{- range $from, $to := . -}}
{{- $rules = append $rules (printf "%s=%s" $from $to) -}}
{{- end -}}
{{- join "," $rules -}}
{{- end -}}

{{/* What a schema cannot say, or not in words. */}}
{{- define "opsy.check" -}}
{{- $values := .Values -}}
{{- $url := required "repo.url: which repository is to be worked by?" $values.repo.url -}}
{{- if regexMatch "^[a-z]+://[^/@]*:[^/@]*@" $url -}}
{{- fail "repo.url contains a password, which everybody who may read the Deployment would see: use repo.credentials.secret" -}}
{{- end -}}
{{- if and (regexMatch "^http://" $url) (not (regexMatch "^http://(localhost|127\\.[0-9.]+|\\[::1\\])(:|/|$)" $url)) (not $values.repo.insecureHttp) -}}
{{- fail "repo.url is an address http://, where anybody on the way can change what is built: use https://, or set repo.insecureHttp" -}}
{{- end -}}
{{- $git := $values.repo.credentials -}}
{{- if and $git.passwordKey (not $git.username) -}}
{{- fail "repo.credentials.username is required with repo.credentials.passwordKey" -}}
{{- end -}}
{{- if and $git.secret (not $git.passwordKey) (not $git.tokenKey) (not $git.sshKey) (not $git.githubApp.id) -}}
{{- fail "repo.credentials: which key of the Secret is it, tokenKey, passwordKey, sshKey or githubApp.privateKeyKey?" -}}
{{- end -}}
{{- if and (or $git.passwordKey $git.username $git.sshKey $git.githubApp.id) (not $git.secret) -}}
{{- fail "repo.credentials.secret is required: which Secret has the password or key?" -}}
{{- end -}}
{{- if and $git.githubApp.id (not $git.githubApp.installationID) -}}
{{- fail "repo.credentials.githubApp.installationID is required with repo.credentials.githubApp.id" -}}
{{- end -}}
{{- if and $values.webhook.enabled (not $values.webhook.secret) -}}
{{- fail "webhook.secret is required: which Secret holds the secret of the webhook?" -}}
{{- end -}}
{{- if and $values.webhook.ingress.enabled (not $values.webhook.ingress.host) -}}
{{- fail "webhook.ingress.host is required: by which name does the Git server reach the receiver?" -}}
{{- end -}}
{{- if and $values.allNamespaces $values.namespaces -}}
{{- fail "namespaces and allNamespaces exclude each other: which namespaces are to be worked in?" -}}
{{- end -}}
{{- if and (not $values.serviceAccount.create) (not $values.serviceAccount.name) -}}
{{- fail "serviceAccount.name is required where serviceAccount.create is false: under which ServiceAccount does the agent run?" -}}
{{- end -}}
{{- end -}}

{{/* The rules of files/role.yaml: those of the Lease, or all others. Secrets may be limited
     to some; those of all namespaces are never read unnamed. */}}
{{- define "opsy.rules" -}}
{{- $rules := list -}}
{{- range .root.Files.Get "files/role.yaml" | fromYamlArray -}}
{{- if eq (has "coordination.k8s.io" .apiGroups) $.lease -}}
{{- if and $.lease (hasKey . "resourceNames") -}}
{{- $rules = append $rules (set . "resourceNames" (list (include "opsy.lease" $.root))) -}}
{{- else if and (has "secrets" .resources) $.root.Values.notifications.secrets -}}
{{- $rules = append $rules (set . "resourceNames" $.root.Values.notifications.secrets) -}}
{{- else if and (has "secrets" .resources) $.root.Values.allNamespaces -}}
{{- else -}}
{{- $rules = append $rules . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end -}}

{{/* The rules of files/role-builds.yaml. What is read for its label matters only with several namespaces, that of builds among them; Secrets may be
     limited to some. Those of all namespaces are never read unnamed, nor where notifications.secrets limits what is read. */}}
{{- define "opsy.buildRules" -}}
{{- $rules := list -}}
{{- $values := .root.Values -}}
{{- $watched := $values.namespaces | default (list .root.Release.Namespace) | uniq -}}
{{- $elsewhere := and $values.builds.namespace (ne (list $values.builds.namespace | toJson) ($watched | toJson)) -}}
{{- $several := or $values.allNamespaces (gt (len $watched) 1) $elsewhere -}}
{{- range .root.Files.Get "files/role-builds.yaml" | fromYamlArray -}}
{{- if and (has "serviceaccounts" .resources) (not $several) -}}
{{- else if and (has "secrets" .resources) (not $several) (not $values.builds.secrets) -}}
{{- else if and (has "secrets" .resources) $values.builds.secrets -}}
{{- $rules = append $rules (set . "resourceNames" $values.builds.secrets) -}}
{{- else if and (has "secrets" .resources) (or $values.allNamespaces $values.notifications.secrets) (not $values.builds.namespace) -}}
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
