{{/* Name of what the chart makes: that of the release, with honeygraph in it. */}}
{{- define "honeygraph.fullname" -}}
{{- if contains "honeygraph" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}-operator
{{- else -}}
{{- printf "%s-honeygraph" .Release.Name | trunc 52 | trimSuffix "-" }}-operator
{{- end -}}
{{- end }}

{{- define "honeygraph.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "honeygraph.fullname" .) }}
{{- end }}

{{/* The labels that select the operator's pods. Agents let pods with this name in at their admin port. */}}
{{- define "honeygraph.selectorLabels" -}}
app.kubernetes.io/name: honeygraph-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "honeygraph.labels" -}}
{{ include "honeygraph.selectorLabels" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: honeygraph
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "honeygraph.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* What the operator may do with the objects of nodes. */}}
{{- define "honeygraph.rules" -}}
# Nodes: read what is wanted; patch for the finalizer that stops Dgraph in order.
- apiGroups: [honeygraph.io]
  resources: [honeygraphnodes]
  verbs: [get, list, watch, patch]
# Nodes: write what was seen.
- apiGroups: [honeygraph.io]
  resources: [honeygraphnodes/status]
  verbs: [get, update]
# Nodes: be named as owner of their parts, where the cluster checks that.
- apiGroups: [honeygraph.io]
  resources: [honeygraphnodes/finalizers]
  verbs: [update]
# Parts of nodes: settings, names, accounts without rights.
- apiGroups: [""]
  resources: [configmaps, serviceaccounts, services]
  verbs: [get, list, watch, create, patch, delete]
# Secrets: read those that a spec names, write the tokens of nodes.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# Volumes of nodes. They are never deleted: whoever deletes data is a person, or the garbage collector.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
# Pods: see whether they run and why not, and at which address an agent is asked.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# Agents and Dgraph.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
# How many members may be away while machines are drained.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Who may speak to whom, and ways in from outside.
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# Ways in by the Gateway API, where the cluster has it.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, create, patch, delete]
# What makes Prometheus watch nodes, where the cluster has its operator.
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors, prometheusrules]
  verbs: [get, list, create, patch, delete]
# Tell people what changed.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
