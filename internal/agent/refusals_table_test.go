package agent_test

import (
	"fmt"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// ownRefusals are, by operation, the errors that are its own; common has those that it shares with others.
var ownRefusals = map[string][]refusal{
	"createProject": append(projectBodies,
		refusal{status: 409, code: "DUPLICATE_ALIAS", body: `{"alias":"{alias}"}`},
	),
	"getProject":    {{status: 404, code: "PROJECT_NOT_FOUND", of: "unknown"}},
	"updateProject": projectChanges,
	"putProject":    projectChanges,
	"deleteProject": {
		{status: 404, code: "PROJECT_NOT_FOUND", of: "unknown"},
		{status: 422, code: "PROJECT_HAS_CONTAINERS", of: "project"},
	},

	"listProjectPermissions": {{status: 404, code: "PROJECT_NOT_FOUND", of: "unknown"}},
	"addProjectPermission": {
		{status: 400, code: "MISSING_REQUIRED_FIELD", body: `{"permission_level":"read"}`},
		{status: 400, code: "INVALID_ID_FORMAT", body: `{"user_id":"me","permission_level":"read"}`},
		{status: 403, code: "INSUFFICIENT_PERMISSIONS", role: "edit", body: `{"user_id":"{fresh}","permission_level":"delete"}`},
		{status: 404, code: "PROJECT_NOT_FOUND", of: "unknown"},
		{status: 409, code: "PERMISSION_ALREADY_EXISTS", body: `{"user_id":"{reader}","permission_level":"read"}`},
		{status: 409, code: "CANNOT_GRANT_SELF_PERMISSION", body: `{"user_id":"{owner}","permission_level":"read"}`},
		{status: 422, code: "QUOTA_EXCEEDED", given: crowded},
	},
	"updateProjectPermission": grantChanges,
	"putProjectPermission":    grantChanges,
	"removeProjectPermission": {
		{status: 404, code: "PROJECT_NOT_FOUND", of: "unknown"},
		{status: 404, code: "PERMISSION_NOT_FOUND", path: "/api/v1/projects/{project}/permissions/{unknown}"},
	},
	"getProjectStats": {{status: 404, code: "RESOURCE_NOT_FOUND", of: "unknown"}},

	"listProjectContainers": {{status: 404, code: "RESOURCE_NOT_FOUND", of: "unknown"}},
	"createContainer": {
		{status: 400, code: "INVALID_CONTAINER_NAME", body: `{"server_id":"{server}","name":"a"}`},
		{status: 400, code: "INVALID_COLOR_FORMAT", body: `{"server_id":"{server}","color":"red"}`},
		{status: 400, code: "VALIDATION_ERROR", body: `{"server_id":"{server}","ssh_public_key":"ssh-ed25519 AAAA"}`},
		{status: 400, code: "VALIDATION_ERROR", body: `{"server_id":"{server}","environment_vars":{"1":"x"}}`},
		{status: 400, code: "SERVER_CONTAINER_LIMIT", given: limited},
		{status: 400, code: "PROJECT_CONTAINER_LIMIT", of: "full"},
		{status: 403, code: "INSUFFICIENT_PERMISSIONS", body: `{"server_id":"{server}","kvm":true}`},
		{status: 404, code: "RESOURCE_NOT_FOUND", of: "unknown"},
		{status: 404, code: "RESOURCE_NOT_FOUND", body: `{"server_id":"{unknown}"}`},
		{status: 409, code: "CONTAINER_NAME_IN_USE", body: `{"server_id":"{server}","name":"{taken}"}`},
		{status: 409, code: "SSH_PUBLIC_KEY_IN_USE", body: `{"server_id":"{server}","ssh_public_key":"{taken key}"}`},
		{status: 500, code: "CONTAINER_CREATE_DISPATCH_FAILED", body: `{"server_id":"{away server}"}`},
	},
	"getContainer":    {{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"}},
	"updateContainer": containerChanges,
	"putContainer":    containerChanges,
	"deleteContainer": {
		{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"},
		{status: 409, code: "OPERATION_STATE_CONFLICT", of: "busy"},
		{status: 409, code: "RESOURCE_IN_USE", of: "claimed"},
		{status: 500, code: "EXTERNAL_SERVICE_ERROR", of: "away"},
	},
	"operateContainer": {
		{status: 400, code: "VALIDATION_ERROR", body: `{"timeout":0}`},
		{status: 400, code: "OPERATION_STATE_CONFLICT", path: "/api/v1/containers/{container}/start"},
		{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"},
		{status: 409, code: "CONTAINER_OPERATION_IN_PROGRESS", of: "busy"},
		{status: 502, code: "CONTAINER_HOST_COMMAND_FAILED", of: "away"},
		{status: 504, code: "CONTAINER_HOST_TIMEOUT", given: failing("stop:before", errdefs.ErrBusy), accepted: true},
	},
	"getContainerStats": {
		{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"},
		{status: 500, code: "EXTERNAL_SERVICE_ERROR", of: "away"},
	},
	"listStatusLogs": {{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"}},

	"getEnvironment":            {{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"}},
	"updateEnvironment":         environmentChanges,
	"putEnvironment":            environmentChanges,
	"setEnvironmentVariable":    variableChanges,
	"putEnvironmentVariable":    variableChanges,
	"deleteEnvironmentVariable": variableChanges,

	"listSnapshots": {{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"}},
	"createSnapshot": {
		{status: 400, code: "VALIDATION_ERROR", body: `{"expiry":0}`},
		{status: 400, code: "CONTAINER_SNAPSHOT_LIMIT", given: limited},
		{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"},
		{status: 409, code: "container_finalizing", of: "unfinished"},
		{status: 409, code: "SNAPSHOT_OPERATION_IN_PROGRESS", of: "busy"},
		{status: 409, code: "OPERATION_STATE_CONFLICT", of: "failed"},
		{status: 409, code: "RESOURCE_ALREADY_EXISTS", body: `{"alias":"{name}"}`},
		{status: 502, code: "CONTAINER_HOST_COMMAND_FAILED", given: failing("snapshot:before", errdefs.ErrInternal), accepted: true},
		{status: 503, code: "SERVICE_UNAVAILABLE", of: "away"},
	},
	"restoreSnapshot": restores,
	"putSnapshot":     restores,
	"deleteSnapshot": append(snapshotChanges,
		refusal{status: 409, code: "SNAPSHOT_OPERATION_IN_PROGRESS", of: "claimed"},
	),
	"renameSnapshot":   renames,
	"putSnapshotAlias": renames,

	"copyContainer": {
		{status: 400, code: "INVALID_ID_FORMAT", body: `{"target_project_id":"here"}`},
		{status: 400, code: "INVALID_CONTAINER_NAME", body: `{"target_project_id":"{project}","name":"a"}`},
		{status: 400, code: "VALIDATION_ERROR", body: `{"target_project_id":"{project}","copy_firewall_rules":true}`},
		{status: 400, code: "SERVER_CONTAINER_LIMIT", given: limited},
		{status: 400, code: "PROJECT_CONTAINER_LIMIT", body: `{"target_project_id":"{full}"}`},
		{status: 403, code: "INSUFFICIENT_PERMISSIONS", role: "operator", body: `{"target_project_id":"{theirs}"}`}, // not the same owner's
		{status: 404, code: "SOURCE_CONTAINER_NOT_FOUND", of: "unknown"},
		{status: 404, code: "RESOURCE_NOT_FOUND", body: `{"target_project_id":"{unknown}"}`},
		{status: 404, code: "RESOURCE_NOT_FOUND", body: `{"target_project_id":"{project}","target_server_id":"{unknown}"}`},
		{status: 404, code: "RESOURCE_NOT_FOUND", body: `{"target_project_id":"{project}","source_snapshot":"none"}`},
		{status: 409, code: "CONTAINER_NAME_IN_USE", body: `{"target_project_id":"{project}","name":"{taken}"}`},
		{status: 409, code: "SSH_PUBLIC_KEY_IN_USE", body: `{"target_project_id":"{project}","ssh_public_key":"{taken key}"}`},
		{status: 409, code: "OPERATION_STATE_CONFLICT", of: "failed"},
		{status: 503, code: "SERVICE_UNAVAILABLE", body: `{"target_project_id":"{project}","target_server_id":"{away server}"}`},
	},
	"syncContainer": {
		{status: 400, code: "CONTAINER_NOT_COPIED", of: "container"},
		{status: 400, code: "SOURCE_CONTAINER_NOT_FOUND", of: "orphan"},
		{status: 400, code: "SERVER_CONTAINER_LIMIT", given: limited},
		{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"},
		{status: 409, code: "CONTAINER_OPERATION_IN_PROGRESS", of: "busy copy"},
		{status: 409, code: "OPERATION_STATE_CONFLICT", of: "broken"},
		{status: 503, code: "SERVICE_UNAVAILABLE", of: "away copy"},
	},
	"cancelContainer": {
		{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"},
		{status: 409, code: "OPERATION_STATE_CONFLICT", of: "busy"}, // a restart
	},

	"getServer":    {{status: 404, code: "RESOURCE_NOT_FOUND", of: "unknown"}},
	"listEvents":   {{status: 400, code: "INVALID_PARAMETER_VALUE", path: "/api/v1/events?start_date=yesterday"}},
	"streamEvents": {{status: 400, code: "INVALID_PARAMETER_VALUE", header: map[string][]string{"Last-Event-Id": {"last"}}}},
	"getUser":      {{status: 404, code: "RESOURCE_NOT_FOUND", of: "unknown"}},
}

var projectBodies = []refusal{
	{status: 400, code: "VALIDATION_ERROR", body: `{"alias":"{fresh}","unknown":1}`},
	{status: 400, code: "INVALID_ALIAS_FORMAT", body: `{"alias":""}`},
	{status: 400, code: "INVALID_COLOR_FORMAT", body: `{"alias":"{fresh}","color":"red"}`},
	{status: 400, code: "INVALID_QUOTA_VALUE", body: `{"alias":"{fresh}","max_containers":-1}`},
}

var projectChanges = append(projectBodies[:len(projectBodies):len(projectBodies)], []refusal{
	{status: 400, code: "MISSING_REQUIRED_FIELD", body: `{"color":"#123"}`},
	{status: 403, code: "INSUFFICIENT_PERMISSIONS", role: "delete", body: `{"alias":"{fresh}","max_containers":5}`},
	{status: 404, code: "PROJECT_NOT_FOUND", of: "unknown"},
	{status: 409, code: "DUPLICATE_ALIAS", body: `{"alias":"{alias}"}`},
}...)

var grantChanges = []refusal{
	{status: 403, code: "INSUFFICIENT_PERMISSIONS", role: "edit", body: `{"permission_level":"delete"}`},
	{status: 404, code: "PROJECT_NOT_FOUND", of: "unknown"},
	{status: 404, code: "PERMISSION_NOT_FOUND", path: "/api/v1/projects/{project}/permissions/{unknown}"},
}

var containerChanges = []refusal{
	{status: 400, code: "INVALID_CONTAINER_NAME", body: `{"name":"a"}`},
	{status: 400, code: "INVALID_COLOR_FORMAT", body: `{"color":"red"}`},
	{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"},
	{status: 409, code: "CONTAINER_NAME_IN_USE", of: "away", body: `{"name":"{taken}"}`},
	{status: 409, code: "SSH_PUBLIC_KEY_IN_USE", of: "away", body: `{"ssh_public_key":"{taken key}"}`},
	{status: 422, code: "QUOTA_EXCEEDED", of: "much keyed", body: `{"ssh_public_key":"{new key}"}`},
}

var environmentChanges = []refusal{
	{status: 400, code: "VALIDATION_ERROR", body: `{}`},
	{status: 400, code: "INVALID_ENV_KEY", body: `{"1":"x"}`},
	{status: 400, code: "RESERVED_ENV_PREFIX", body: `{"HOODY_X":"x"}`},
	{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"},
}

var variableChanges = []refusal{
	{status: 400, code: "INVALID_ENV_KEY", path: "/api/v1/containers/{container}/env/1"},
	{status: 400, code: "RESERVED_ENV_PREFIX", path: "/api/v1/containers/{container}/env/HOODY_X"},
	{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"},
}

var snapshotChanges = []refusal{
	{status: 404, code: "CONTAINER_NOT_FOUND", of: "unknown"},
	{status: 404, code: "RESOURCE_NOT_FOUND", of: "orphan"}, // which has not this one
	{status: 409, code: "SNAPSHOT_OPERATION_IN_PROGRESS", of: "busy"},
}

var restores = append(snapshotChanges[:len(snapshotChanges):len(snapshotChanges)], []refusal{
	{status: 409, code: "OPERATION_STATE_CONFLICT", of: "failed"},
	{status: 409, code: "SNAPSHOT_OPERATION_IN_PROGRESS", of: "claimed"},
	{status: 422, code: "QUOTA_EXCEEDED", given: failing("clone:before", fmt.Errorf("the pool is full: %w", errdefs.ErrExhausted)), accepted: true},
	{status: 502, code: "CONTAINER_HOST_COMMAND_FAILED", given: failing("clone:before", errdefs.ErrInternal), accepted: true},
	{status: 503, code: "SERVICE_UNAVAILABLE", of: "away"},
}...)

var renames = append(snapshotChanges[:len(snapshotChanges):len(snapshotChanges)], []refusal{
	{status: 400, code: "VALIDATION_ERROR", body: `{"alias":""}`},
	{status: 409, code: "RESOURCE_ALREADY_EXISTS", body: `{"alias":"{other name}"}`},
}...)
