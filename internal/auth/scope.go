package auth

import (
	"encoding/json"
	"errors"
	"strings"
)

// scopes are the words of a scope claim: a string with blanks between them (RFC 8693), or a list, as some issuers
// write it.
type scopes []string

// MarshalJSON writes the standard's form.
func (s scopes) MarshalJSON() ([]byte, error) {
	return json.Marshal(strings.Join(s, " "))
}

// UnmarshalJSON reads either form.
func (s *scopes) UnmarshalJSON(data []byte) error {
	var words string
	if err := json.Unmarshal(data, &words); err == nil {
		*s = strings.Fields(words)
		return nil
	}
	var list []string
	if err := json.Unmarshal(data, &list); err != nil {
		return errors.New("scope is neither a string nor a list of strings")
	}
	*s = list
	return nil
}
