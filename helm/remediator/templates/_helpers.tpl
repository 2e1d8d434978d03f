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

{{- define "remediator.migrateSelector" -}}
app.kubernetes.io/name: remediator-migrate
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

{{- /* "true" if the store is a PostgreSQL, which several replicas can share; else nothing. */ -}}
{{- define "remediator.postgres" -}}
{{- if hasPrefix "postgres" .Values.storage.url -}}true{{- end -}}
{{- end -}}

{{- define "remediator.replicas" -}}
{{- if not (kindIs "invalid" .Values.replicas) -}}
{{- int .Values.replicas -}}
{{- else if include "remediator.postgres" . -}}
2
{{- else -}}
1
{{- end -}}
{{- end -}}

{{- /* The address with which the schema is migrated: that of its owner, or else the service's own. */ -}}
{{- define "remediator.migrateUrl" -}}
{{- default .Values.storage.url .Values.storage.migrateJob.url -}}
{{- end -}}

{{- /* The ports of all hosts of an address, as a YAML list: (dict "url" … "default" 5432). */ -}}
{{- define "remediator.ports" -}}
{{- $ports := list -}}
{{- range regexReplaceAll "^[a-z]+://([^@/?]*@)?([^/?]*).*$" .url "${2}" | splitList "," -}}
  {{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default $.default | int) -}}
{{- end -}}
{{- toYaml (uniq $ports) -}}
{{- end -}}

{{- /* How long the steps under way may take when the pod ends (worker.grace), in whole seconds. */ -}}
{{- define "remediator.grace" -}}
{{- $text := dig "worker" "grace" "25s" .Values.settings | toString -}}
{{- if not (regexMatch "^(0|([0-9]+(ms|s|m|h))+)$" $text) -}}
  {{- fail (printf "settings.worker.grace: %s is not a duration; write a number and a unit, like 25s" $text) -}}
{{- end -}}
{{- $milliseconds := 0 -}}
{{- range regexFindAll "[0-9]+(ms|s|m|h)" $text -1 -}}
  {{- $unit := get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) (regexFind "[a-z]+$" .) -}}
  {{- $milliseconds = add $milliseconds (mul $unit (regexFind "^[0-9]+" . | int64)) -}}
{{- end -}}
{{- div (add $milliseconds 999) 1000 -}}
{{- end -}}

{{- /* Beside worker.grace an end takes 3 s for the preStop hook and, at the worst, 32 s more: for steps that are
cancelled, for requests in progress, for the last records of the audit. */ -}}
{{- define "remediator.leastGracePeriod" -}}
{{- add (include "remediator.grace" . | int) 35 -}}
{{- end -}}

{{- define "remediator.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "remediator.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* A volume with one key of a Secret: (dict "volume" … "from" (dict "name" … "key" …)). It is mounted as a folder,
never as a single file, so that what is replaced in the Secret arrives in running pods. */ -}}
{{- define "remediator.secretVolume" -}}
- name: {{ .volume }}
  secret:
    secretName: {{ .from.name }}
    defaultMode: 0440
    items:
      - key: {{ .from.key }}
        path: {{ .from.key }}
{{- end -}}

{{- define "remediator.egressDns" -}}
# Names are resolved by the cluster's own DNS only.
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{- /* One egress rule to the listed peers of an address: (dict "peers" (dict "to" … "ports" …) "url" … "default" …).
A rule with an empty `to` would let the pods reach everything, so without peers there is none. */ -}}
{{- define "remediator.egressTo" -}}
{{- if .peers.to -}}
- to: {{- toYaml .peers.to | nindent 4 }}
  ports:
    {{- range .peers.ports | default (include "remediator.ports" . | fromYamlArray) }}
    - {port: {{ int . }}, protocol: TCP}
    {{- end }}
{{- end -}}
{{- end -}}

{{- /* Refuses what would install and then be unsafe, or never work. Every message says what to write instead. */ -}}
{{- define "remediator.refuse" -}}
{{- if include "remediator.postgres" . -}}
  {{- include "remediator.refusePostgres" . -}}
{{- else -}}
  {{- include "remediator.refuseSqlite" . -}}
{{- end -}}
{{- range $name, $url := dict "storage.url" .Values.storage.url "storage.migrateJob.url" .Values.storage.migrateJob.url "redis.url" .Values.redis.url -}}
  {{- if or (regexMatch "://[^@]*:[^@]*@" $url) (regexMatch "[?&]password=" $url) -}}
    {{- fail (printf "%s holds a password, which everybody who may read the pod would see; put it into a Secret and write the Secret's name under passwordSecret" $name) -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.redis.passwordSecret.name (not .Values.redis.url) -}}
  {{- fail "redis.passwordSecret is for a Redis, and redis.url is empty; write the address of the Redis too" -}}
{{- end -}}
{{- if and .Values.redis.url .Values.networkPolicy.enabled (not .Values.networkPolicy.redis.to) -}}
  {{- fail "redis.url names a Redis, and the network policy does not let the pods reach it; list its peers in networkPolicy.redis.to" -}}
{{- end -}}
{{- if and .Values.audit.checkpoint.emptyDir .Values.audit.checkpoint.existingClaim -}}
  {{- fail "audit.checkpoint: emptyDir and existingClaim are both set, and the file has one place; remove one of them" -}}
{{- end -}}
{{- if not .Values.intake.tokensSecret.name -}}
  {{- fail "intake.tokensSecret.name is empty, and without tokens the server would listen on loopback only; create a Secret with one token on each line and write its name" -}}
{{- end -}}
{{- if and .Values.settings .Values.settingsSecret -}}
  {{- fail "settings and settingsSecret are both set, and only one can be remediator.yaml; remove one of them" -}}
{{- end -}}
{{- range $section, $added := include "remediator.additions" . | fromYaml -}}
  {{- $written := get $.Values.settings $section -}}
  {{- range $key, $_ := $added -}}
    {{- if and (kindIs "map" $written) (hasKey $written $key) -}}
      {{- fail (printf "settings.%s.%s is written by the chart, from its own values; remove it there and set the chart's value" $section $key) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $least := include "remediator.leastGracePeriod" . | int -}}
{{- $period := .Values.terminationGracePeriodSeconds -}}
{{- if and (not (kindIs "invalid" $period)) (lt (int $period) $least) -}}
  {{- fail (printf "terminationGracePeriodSeconds: %d would end the pod before worker.grace is over; write %d or more, or a shorter settings.worker.grace" (int $period) $least) -}}
{{- end -}}
{{- if and (or .Values.scaling .Values.rbac.roles) .Values.networkPolicy.enabled (not .Values.networkPolicy.kubernetesApi.cidrs) -}}
  {{- fail "scaling or rbac.roles needs the Kubernetes API, and the network policy does not let the pod reach it; list the API's addresses in networkPolicy.kubernetesApi.cidrs" -}}
{{- end -}}
{{- $seen := dict -}}
{{- range .Values.scaling -}}
  {{- if hasKey $seen .namespace -}}
    {{- fail (printf "scaling: namespace %s is listed twice; put its deployments in one entry" .namespace) -}}
  {{- end -}}
  {{- $_ := set $seen .namespace true -}}
{{- end -}}
{{- end -}}

{{- /* The Roles and ClusterRoles of the text in `rbac.roles`, as a JSON array. Refuses what `remediator rbac` never prints. */ -}}
{{- define "remediator.roles" -}}
{{- $roles := list -}}
{{- $seen := dict -}}
{{- range regexSplit "(?m)^---[ \t]*\r?$" .Values.rbac.roles -1 -}}
  {{- $document := fromYaml . -}}
  {{- if hasKey $document "Error" -}}
    {{- fail (printf "rbac.roles: %s; write what `remediator rbac` prints, as it is" $document.Error) -}}
  {{- end -}}
  {{- $kind := get $document "kind" -}}
  {{- if has $kind (list "Role" "ClusterRole") -}}
    {{- $place := dig "metadata" "namespace" "" $document -}}
    {{- if eq (eq $kind "Role") (empty $place) -}}
      {{- fail (printf "rbac.roles: a %s in namespace %q; write the namespace of each Role, and none for a ClusterRole" $kind $place) -}}
    {{- end -}}
    {{- if hasKey $seen $place -}}
      {{- fail (printf "rbac.roles: there are two %ss %s; print those of one target, with `remediator rbac --target`" $kind (ternary "of the cluster" (printf "for namespace %s" $place) (empty $place))) -}}
    {{- end -}}
    {{- $_ := set $seen $place true -}}
    {{- range $rule := $document.rules -}}
      {{- range $key := list "apiGroups" "resources" "verbs" -}}
        {{- if or (has "*" (get $rule $key | default list)) (empty (get $rule $key)) -}}
          {{- fail (printf "rbac.roles: a rule whose %s are %s; list them, no rule needs all" $key (get $rule $key | default list | toJson)) -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
    {{- $roles = append $roles (pick $document "kind" "metadata" "rules") -}}
  {{- else if and $document (not (has $kind (list "RoleBinding" "ClusterRoleBinding"))) -}}
    {{- fail (printf "rbac.roles: holds a %q; only Roles and their bindings belong there" (toString $kind)) -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.rbac.roles (not $roles) -}}
  {{- fail "rbac.roles holds no Role; write what `remediator rbac` prints, as it is" -}}
{{- end -}}
{{- $roles | toJson -}}
{{- end -}}

{{- define "remediator.refuseSqlite" -}}
{{- $replicas := include "remediator.replicas" . | int -}}
{{- if gt $replicas 1 -}}
  {{- fail (printf "replicas: %d cannot share one SQLite database; write `replicas: 1`, or a postgresql:// address in storage.url" $replicas) -}}
{{- end -}}
{{- range .Values.storage.volume.accessModes -}}
  {{- if not (has . (list "ReadWriteOnce" "ReadWriteOncePod")) -}}
    {{- fail (printf "storage.volume.accessModes: %s means a shared file system, whose locks SQLite cannot trust; write [ReadWriteOnce] or [ReadWriteOncePod]" .) -}}
  {{- end -}}
{{- end -}}
{{- if or .Values.storage.passwordSecret.name .Values.storage.migrateJob.enabled -}}
  {{- fail "storage.passwordSecret and storage.migrateJob are for PostgreSQL, and storage.url is a SQLite file; remove them, or write a postgresql:// address" -}}
{{- end -}}
{{- if .Values.audit.checkpoint.emptyDir -}}
  {{- fail "audit.checkpoint.emptyDir would keep the checkpoint of a SQLite database for a shorter time than it is kept beside the database; remove it, or name an existingClaim" -}}
{{- end -}}
{{- end -}}

{{- define "remediator.refusePostgres" -}}
{{- $job := .Values.storage.migrateJob -}}
{{- if not (or .Values.storage.passwordSecret.name (contains "sslkey=" .Values.storage.url)) -}}
  {{- fail "storage.passwordSecret.name is empty, and PostgreSQL would not let the pods in; create a Secret with the password and write its name, or name a client certificate with sslcert= and sslkey= in storage.url" -}}
{{- end -}}
{{- if and $job.enabled $job.url (not (or $job.passwordSecret.name (contains "sslkey=" $job.url))) -}}
  {{- fail "storage.migrateJob.url names another role than the service's, and there is no password for it; write the name of its Secret in storage.migrateJob.passwordSecret.name" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.postgres.to) -}}
  {{- fail "storage.url names a PostgreSQL, and the network policy does not let the pods reach it; list its peers in networkPolicy.postgres.to" -}}
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

{{- /* What the chart itself has to say in remediator.yaml: the places of what it mounts. */ -}}
{{- define "remediator.additions" -}}
{{- $secrets := "/etc/remediator/secrets" -}}
{{- $storage := dict "url" .Values.storage.url -}}
{{- if include "remediator.postgres" . -}}
  {{- $_ := set $storage "schema" .Values.storage.schema -}}
  {{- if .Values.storage.passwordSecret.name -}}
    {{- $_ := set $storage "password_file" (printf "%s/storage/%s" $secrets .Values.storage.passwordSecret.key) -}}
  {{- end -}}
{{- end -}}
{{- $added := dict "intake" (dict "tokens_file" (printf "%s/intake/%s" $secrets .Values.intake.tokensSecret.key)) "storage" $storage -}}
{{- if .Values.redis.url -}}
  {{- $redis := dict "url" .Values.redis.url -}}
  {{- if .Values.redis.passwordSecret.name -}}
    {{- $_ := set $redis "password_file" (printf "%s/redis/%s" $secrets .Values.redis.passwordSecret.key) -}}
  {{- end -}}
  {{- $_ := set $added "redis" $redis -}}
{{- end -}}
{{- if or .Values.audit.checkpoint.emptyDir .Values.audit.checkpoint.existingClaim -}}
  {{- $_ := set $added "audit" (dict "checkpoint_file" "/var/lib/checkpoint/audit.checkpoint") -}}
{{- end -}}
{{- toYaml $added -}}
{{- end -}}

{{- define "remediator.settings" -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.settings) (include "remediator.additions" . | fromYaml)) -}}
{{- end -}}
