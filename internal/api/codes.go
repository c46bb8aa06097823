package api

import (
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// statusOf is the status that an error of the class and code is answered with. The class decides, except for the few
// codes that the contract pins to a status.
func statusOf(operation string, class error, code string) int {
	switch code {
	case "SERVER_CONTAINER_LIMIT", "PROJECT_CONTAINER_LIMIT", "CONTAINER_SNAPSHOT_LIMIT", "CONTAINER_NOT_COPIED":
		return http.StatusBadRequest
	case "SOURCE_CONTAINER_NOT_FOUND":
		if operation == "syncContainer" {
			return http.StatusBadRequest // the path names the copy, and that one exists
		}
	case "QUOTA_EXCEEDED", "PROJECT_HAS_CONTAINERS":
		return http.StatusUnprocessableEntity
	case "RATE_LIMIT_EXCEEDED":
		return http.StatusTooManyRequests
	case "CONTAINER_CREATE_DISPATCH_FAILED", "EXTERNAL_SERVICE_ERROR":
		return http.StatusInternalServerError
	case "CONTAINER_HOST_COMMAND_FAILED":
		return http.StatusBadGateway
	case "CONTAINER_HOST_TIMEOUT":
		return http.StatusGatewayTimeout
	}
	return statusOfClass(class)
}

func statusOfClass(class error) int {
	switch class {
	case errdefs.ErrInvalid, errdefs.ErrUnsupported:
		return http.StatusBadRequest
	case errdefs.ErrUnauthenticated:
		return http.StatusUnauthorized
	case errdefs.ErrPermissionDenied:
		return http.StatusForbidden
	case errdefs.ErrNotFound:
		return http.StatusNotFound
	case errdefs.ErrAlreadyExists, errdefs.ErrFailedPrecondition, errdefs.ErrBusy:
		return http.StatusConflict
	case errdefs.ErrExhausted, errdefs.ErrUnprocessable:
		return http.StatusUnprocessableEntity
	case errdefs.ErrUnavailable, errdefs.ErrAborted, errdefs.ErrStale:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// generic is what the contract says about a class when nobody knows more.
func generic(class error) (code, message string) {
	switch class {
	case errdefs.ErrInvalid:
		return "VALIDATION_ERROR", "Validation failed"
	case errdefs.ErrUnsupported:
		return "UNSUPPORTED", "Not supported"
	case errdefs.ErrUnauthenticated:
		return "INVALID_TOKEN", "Invalid authentication token"
	case errdefs.ErrPermissionDenied:
		return "INSUFFICIENT_PERMISSIONS", "Insufficient permissions"
	case errdefs.ErrNotFound:
		return "RESOURCE_NOT_FOUND", "Resource not found"
	case errdefs.ErrAlreadyExists:
		return "RESOURCE_ALREADY_EXISTS", "Resource already exists"
	case errdefs.ErrFailedPrecondition:
		return "OPERATION_STATE_CONFLICT", "The container's state does not allow this"
	case errdefs.ErrBusy:
		return "RESOURCE_IN_USE", "Resource is currently in use"
	case errdefs.ErrExhausted:
		return "QUOTA_EXCEEDED", "Quota exceeded"
	case errdefs.ErrUnprocessable:
		return "UNPROCESSABLE", "The request is refused by a rule"
	case errdefs.ErrUnavailable, errdefs.ErrAborted, errdefs.ErrStale:
		return "SERVICE_UNAVAILABLE", "Service temporarily unavailable"
	}
	return internalCode, internalMessage
}

// What is said of a failure that is nobody's business.
const (
	internalCode    = "INTERNAL_SERVER_ERROR"
	internalMessage = "An unexpected error occurred"
)

// replacesReason tells whether the contract puts the code into the envelope's error member, instead of the status's
// reason phrase. It does so with its newer codes.
func replacesReason(code string) bool {
	switch code {
	case "CONTAINER_SNAPSHOT_LIMIT",
		"OPERATION_NOT_PERMITTED_ON_EXPIRED",
		"CONTAINER_OPERATION_IN_PROGRESS",
		"SNAPSHOT_OPERATION_IN_PROGRESS",
		"SNAPSHOT_INVENTORY_UNAVAILABLE",
		"container_finalizing",
		"CONTAINER_CREATE_DISPATCH_FAILED",
		"CONTAINER_HOST_COMMAND_FAILED",
		"CONTAINER_HOST_TIMEOUT":
		return true
	}
	return false
}

// mayExplain500 tells whether a 500 of this code shows its message: the contract documents the code, so the message
// was written for the caller.
func mayExplain500(code string) bool {
	return code == "CONTAINER_CREATE_DISPATCH_FAILED" || code == "EXTERNAL_SERVICE_ERROR"
}

// retryAfter is how many seconds a client should wait, as a header value; empty for "this will not change by waiting".
func retryAfter(status int, class error) string {
	switch {
	case status == http.StatusTooManyRequests:
		return "1"
	case status == http.StatusServiceUnavailable:
		return "5"
	case status == http.StatusConflict && class == errdefs.ErrBusy:
		return "2"
	}
	return ""
}
