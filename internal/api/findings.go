package api

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"

	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// maxIssues bounds an answer: who sends a thousand unknown fields learns of the first few.
const maxIssues = 20

// findings are what the document's check has against a request, sorted by where it was found.
type findings struct {
	path, query, body []finding
}

// finding is one broken rule; code is the contract's generic code for it, empty where it has none.
type finding struct {
	issue contract.Issue
	code  string
}

// collect takes the validator's error apart. It goes by the outermost type: errors.As would look through a request's
// error at the several errors within, and lose where they were found.
func (f *findings) collect(err error) {
	switch err := err.(type) {
	case openapi3.MultiError:
		for _, one := range err {
			f.collect(one)
		}
	case *openapi3filter.RequestError:
		switch {
		case err.Parameter == nil:
			f.body = append(f.body, explain("", err.Err)...)
		case err.Parameter.In == "path":
			f.path = append(f.path, explain(pointer(err.Parameter.Name), err.Err)...)
		default:
			f.query = append(f.query, explainParameter(err.Parameter, err.Err)...)
		}
	default:
		f.body = append(f.body, finding{issue: contract.Issue{Message: unknownRule}})
	}
}

// unknownRule is what is left to say of an error that the validator is not known to return.
const unknownRule = "does not match the contract"

// asError answers the first place where something was found; what is wrong elsewhere shows when that is mended.
func (f *findings) asError() error {
	switch {
	case len(f.path) > 0:
		return f.asPathError()
	case len(f.query) > 0:
		return invalidQuery(issuesOf(f.query)...)
	case len(f.body) > 0:
		return errdefs.New(errdefs.ErrInvalid, commonCode(f.body), "Validation failed").WithData(issuesOf(f.body))
	}
	return nil
}

func (f *findings) asPathError() error {
	if len(f.path) == 0 {
		return nil
	}
	code := commonCode(f.path)
	message := "Validation failed"
	if code == "INVALID_ID_FORMAT" {
		message = "Invalid ID format"
	}
	return errdefs.New(errdefs.ErrInvalid, code, "%s", message).WithData(issuesOf(f.path))
}

// commonCode is the code that all findings share; several kinds of mistakes are just VALIDATION_ERROR.
func commonCode(all []finding) string {
	code := all[0].code
	for _, one := range all {
		if one.code != code {
			code = ""
		}
	}
	if code == "" {
		return "VALIDATION_ERROR"
	}
	return code
}

func issuesOf(all []finding) []contract.Issue {
	var issues []contract.Issue
	for _, one := range all {
		if !slices.Contains(issues, one.issue) && len(issues) < maxIssues {
			issues = append(issues, one.issue)
		}
	}
	return issues
}

func invalidQuery(issues ...contract.Issue) error {
	return errdefs.New(errdefs.ErrInvalid, "INVALID_PARAMETER_VALUE", "Invalid parameter value").WithData(issues[:min(len(issues), maxIssues)])
}

func invalidBody(path, format string, args ...any) error {
	issue := contract.Issue{InstancePath: path, Message: fmt.Sprintf(format, args...)}
	return errdefs.New(errdefs.ErrInvalid, "VALIDATION_ERROR", "Validation failed").WithData([]contract.Issue{issue})
}

// invalidParameter is for what the generated code could not read although the document had accepted it.
func invalidParameter(err error) error {
	path := ""
	var format *contract.InvalidParamFormatError
	if errors.As(err, &format) {
		path = pointer(format.ParamName)
	}
	return invalidQuery(contract.Issue{InstancePath: path, Message: "cannot be read"})
}

// explainParameter names the rule that a parameter's value breaks. A value that does not even parse reaches no schema.
func explainParameter(parameter *openapi3.Parameter, err error) []finding {
	var schemaError *openapi3.SchemaError
	if errors.As(err, &schemaError) {
		return explain(pointer(parameter.Name), err)
	}
	schema := parameter.Schema.Value
	return []finding{{issue: contract.Issue{InstancePath: pointer(parameter.Name), Message: "must be " + typeOf(schema)}}}
}

// explain names the rules that a value breaks.
func explain(base string, err error) []finding {
	message := unknownRule
	switch err := err.(type) {
	case openapi3.MultiError:
		var all []finding
		for _, one := range err {
			all = append(all, explain(base, one)...)
		}
		return all
	case *openapi3.SchemaError:
		return explainSchema(base, err)
	}
	if errors.Is(err, openapi3filter.ErrInvalidRequired) {
		message = "a JSON object is required"
	}
	return []finding{{issue: contract.Issue{InstancePath: base, Message: message}}}
}

func explainSchema(base string, broken *openapi3.SchemaError) []finding {
	at := base
	for _, step := range broken.JSONPointer() {
		at += pointer(step)
	}
	if broken.SchemaField == "properties" {
		return unknownFields(at, broken)
	}
	code, _ := broken.Schema.Extensions["x-code"].(string)
	if broken.SchemaField == "required" {
		code = "MISSING_REQUIRED_FIELD"
	}
	return []finding{{issue: contract.Issue{InstancePath: at, Message: ruleOf(broken)}, code: code}}
}

// unknownFields lists what the object has and the schema has not. The validator reports each of them with the whole
// object, so each report lists all; duplicates go when the issues are put together.
func unknownFields(at string, broken *openapi3.SchemaError) []finding {
	object, _ := broken.Value.(map[string]any)
	var all []finding
	for _, name := range sortedKeys(object) {
		if len(all) == maxIssues {
			break
		}
		if _, known := broken.Schema.Properties[name]; !known {
			all = append(all, finding{issue: contract.Issue{InstancePath: at + pointer(name), Message: "is not a field of this request"}})
		}
	}
	return all
}

// ruleOf says the broken rule in the words that JSON Schema validators use. It never repeats the value.
func ruleOf(broken *openapi3.SchemaError) string {
	schema := broken.Schema
	switch broken.SchemaField {
	case "required":
		at := broken.JSONPointer()
		return fmt.Sprintf("must have required property '%s'", at[len(at)-1])
	case "type", "nullable":
		return "must be " + typeOf(schema)
	case "enum":
		return "must be equal to one of the allowed values: " + allowedValues(schema)
	case "minLength":
		return fmt.Sprintf("must NOT have fewer than %d characters", schema.MinLength)
	case "maxLength":
		return fmt.Sprintf("must NOT have more than %d characters", *schema.MaxLength)
	case "minimum":
		return fmt.Sprintf("must be >= %g", *schema.Min)
	case "maximum":
		return fmt.Sprintf("must be <= %.0f", *schema.Max)
	case "maxItems":
		return fmt.Sprintf("must NOT have more than %d items", *schema.MaxItems)
	case "uniqueItems":
		return "must NOT have duplicate items"
	case "minProperties":
		return fmt.Sprintf("must NOT have fewer than %d properties", schema.MinProps)
	case "maxProperties":
		return fmt.Sprintf("must NOT have more than %d properties", *schema.MaxProps)
	case "format":
		return "must be a " + schema.Format
	case "pattern":
		if rule, ok := schema.Extensions["x-rule"].(string); ok {
			return rule
		}
		return fmt.Sprintf("must match pattern %q", schema.Pattern)
	}
	return "must be " + typeOf(schema)
}

func typeOf(schema *openapi3.Schema) string {
	types := strings.Join(schema.Type.Slice(), " or ")
	if schema.Nullable {
		types += " or null"
	}
	return types
}

func allowedValues(schema *openapi3.Schema) string {
	values := make([]string, len(schema.Enum))
	for i, value := range schema.Enum {
		values[i] = fmt.Sprint(value)
	}
	return strings.Join(values, ", ")
}

// pointer is one step of a JSON pointer (RFC 6901).
func pointer(name string) string {
	return "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(shorten(name))
}

// shorten cuts a name that the client made longer than anybody reads.
func shorten(name string) string {
	const longest = 128
	if runes := []rune(name); len(runes) > longest {
		return string(runes[:longest]) + "…"
	}
	return name
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
