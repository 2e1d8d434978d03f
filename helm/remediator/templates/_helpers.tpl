{{- define "remediator.name" -}}
{{- if contains "remediator" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-remediator" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "remediator.selector" -}}
app.kubernetes.io/name: remediator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "remediator.labels" -}}
{{ include "remediator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "remediator.serviceAccount" -}}
{{- default (include "remediator.name" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "remediator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* Refuses what would install and then be unsafe, or never work. Every message says what to write instead. */ -}}
{{- define "remediator.refuse" -}}
{{- if gt (int .Values.replicas) 1 -}}
  {{- fail (printf "replicas: %d cannot share one SQLite database, and Remediator has no other store yet; write `replicas: 1`" (int .Values.replicas)) -}}
{{- end -}}
{{- range .Values.storage.volume.accessModes -}}
  {{- if not (has . (list "ReadWriteOnce" "ReadWriteOncePod")) -}}
    {{- fail (printf "storage.volume.accessModes: %s means a shared file system, whose locks SQLite cannot trust; write [ReadWriteOnce] or [ReadWriteOncePod]" .) -}}
  {{- end -}}
{{- end -}}
{{- if not .Values.intake.tokensSecret.name -}}
  {{- fail "intake.tokensSecret.name is empty, and without tokens the server would listen on loopback only; create a Secret with one token on each line and write its name" -}}
{{- end -}}
{{- if and .Values.settings .Values.settingsSecret -}}
  {{- fail "settings and settingsSecret are both set, and only one can be remediator.yaml; remove one of them" -}}
{{- end -}}
{{- if and .Values.scaling .Values.networkPolicy.enabled (not .Values.networkPolicy.kubernetesApi.cidrs) -}}
  {{- fail "scaling needs the Kubernetes API, and the network policy does not let the pod reach it; list the API's addresses in networkPolicy.kubernetesApi.cidrs" -}}
{{- end -}}
{{- $seen := dict -}}
{{- range .Values.scaling -}}
  {{- if hasKey $seen .namespace -}}
    {{- fail (printf "scaling: namespace %s is listed twice; put its deployments in one entry" .namespace) -}}
  {{- end -}}
  {{- $_ := set $seen .namespace true -}}
{{- end -}}
{{- end -}}

{{- /* The rule files: those of the chart's folder rules/, then those of the values, which win. */ -}}
{{- define "remediator.rules" -}}
{{- $files := dict -}}
{{- range $path, $text := .Files.Glob "rules/*.{yaml,yml}" -}}
  {{- $_ := set $files (base $path) (toString $text) -}}
{{- end -}}
{{- range $name, $text := .Values.rules -}}
  {{- $_ := set $files $name $text -}}
{{- end -}}
{{- toYaml $files -}}
{{- end -}}

{{- /* remediator.yaml with the path of the token file that the chart mounts. */ -}}
{{- define "remediator.settings" -}}
{{- $tokens := printf "/etc/remediator/secrets/intake/%s" .Values.intake.tokensSecret.key -}}
{{- toYaml (mergeOverwrite (dict) (deepCopy .Values.settings) (dict "intake" (dict "tokens_file" $tokens))) -}}
{{- end -}}
