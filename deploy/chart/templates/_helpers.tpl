{{- define "opsy.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}

{{/* At most 50 characters, because suffixes of up to 13 are appended. */}}
{{- define "opsy.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{ .Values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" }}
{{- end -}}

{{/* The name of cluster-scoped objects. Namespaces and release names contain no colon, so it is unique per release. */}}
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
{{ required "image.repository is required: the agent's image, without a tag" $image.repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with $image.digest }}@{{ . }}{{ end }}
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

{{/* The labels and annotations in the metadata of an object. `labels` and `annotations` are the object's own; `aggregate`
     lists the ClusterRoles that Kubernetes aggregates its rules to. */}}
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

{{/* The name of a Role in a namespace. Outside of the release's own namespace it starts with the latter, because releases
     of the same name may exist in several namespaces. */}}
{{- define "opsy.roleName" -}}
{{- $name := include "opsy.fullname" .root -}}
{{- ternary $name (printf "%s:%s" .root.Release.Namespace $name) (eq .namespace .root.Release.Namespace) -}}
{{- end -}}

{{/* The Secrets that the agent itself uses, which no build receives: those that its pod names, and those that it reads to
     send notifications. */}}
{{- define "opsy.ownSecrets" -}}
{{- $own := concat (list .Values.repo.credentials.secret .Values.repo.signing.secret .Values.repo.pullRequests.secret .Values.webhook.secret) .Values.ownSecrets .Values.notifications.secrets -}}
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

{{/* A map of namespaces to globs, in the format of the flags. */}}
{{- define "opsy.fence" -}}
{{- $rules := list -}}
{{- range $namespace, $globs := . -}}
{{- range $globs -}}
{{- $rules = append $rules (printf "%s=%s" $namespace .) -}}
{{- end -}}
{{- end -}}
{{- join "," $rules -}}
{{- end -}}

{{/* A map of address prefixes, in the format of the flag. */}}
{{- define "opsy.rewrites" -}}
{{- $rules := list -}}
{{- range $from, $to := . -}}
{{- $rules = append $rules (printf "%s=%s" $from $to) -}}
{{- end -}}
{{- join "," $rules -}}
{{- end -}}

{{/* Checks that the schema cannot express, or only without a clear message. */}}
{{- define "opsy.check" -}}
{{- $values := .Values -}}
{{- $url := required "repo.url is required: the address of the repository to follow" $values.repo.url -}}
{{- if regexMatch "^[a-z]+://[^/@]*:[^/@]*@" $url -}}
{{- fail "repo.url contains a password, which everyone who may read the Deployment could see: use repo.credentials.secret" -}}
{{- end -}}
{{- if and (regexMatch "^http://" $url) (not (regexMatch "^http://(localhost|127\\.[0-9.]+|\\[::1\\])(:|/|$)" $url)) (not $values.repo.insecureHttp) -}}
{{- fail "repo.url starts with http://, so anyone on the network path can change what is built: use https://, or set repo.insecureHttp" -}}
{{- end -}}
{{- $git := $values.repo.credentials -}}
{{- if and $git.passwordKey (not $git.username) -}}
{{- fail "repo.credentials.username is required with repo.credentials.passwordKey" -}}
{{- end -}}
{{- if and $git.secret (not $git.passwordKey) (not $git.tokenKey) (not $git.sshKey) (not $git.githubApp.id) -}}
{{- fail "repo.credentials.secret needs one of tokenKey, passwordKey, sshKey or githubApp.id: set the key of the Secret to use" -}}
{{- end -}}
{{- if and (or $git.passwordKey $git.username $git.sshKey $git.githubApp.id) (not $git.secret) -}}
{{- fail "repo.credentials.secret is required: the Secret that contains the password or key" -}}
{{- end -}}
{{- if and $git.githubApp.id (not $git.githubApp.installationID) -}}
{{- fail "repo.credentials.githubApp.installationID is required with repo.credentials.githubApp.id" -}}
{{- end -}}
{{- if and $values.webhook.enabled (not $values.webhook.secret) -}}
{{- fail "webhook.secret is required: the Secret that contains the secret of the webhook" -}}
{{- end -}}
{{- if and $values.webhook.ingress.enabled (not $values.webhook.ingress.host) -}}
{{- fail "webhook.ingress.host is required: the host name at which the Git server reaches the receiver" -}}
{{- end -}}
{{- if and $values.allNamespaces $values.namespaces -}}
{{- fail "namespaces and allNamespaces exclude each other: set only one of them" -}}
{{- end -}}
{{- if and (not $values.serviceAccount.create) (not $values.serviceAccount.name) -}}
{{- fail "serviceAccount.name is required if serviceAccount.create is false: the ServiceAccount of the agent" -}}
{{- end -}}
{{- end -}}

{{/* The rules of files/role.yaml: those for the Lease and its Events, or all but those for the Lease. notifications.secrets
     limits the rule for Secrets to names. With allNamespaces there is no rule for Secrets without names. */}}
{{- define "opsy.rules" -}}
{{- $rules := list -}}
{{- range .root.Files.Get "files/role.yaml" | fromYamlArray -}}
{{- if or (eq (has "coordination.k8s.io" .apiGroups) $.lease) (has "events" .resources) -}}
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

{{/* The rules of files/role-builds.yaml. ServiceAccounts and Secrets, of which only the label is read, matter only with
     several namespaces, that of builds included. builds.secrets limits the rule for Secrets to names. With allNamespaces,
     or if notifications.secrets limits the other rule, there is no rule for Secrets without names. */}}
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
