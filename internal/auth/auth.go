// Package auth establishes who sends a request to the API: it checks bearer tokens (JWT) and, for the command line and
// for tests, makes them.
//
// The algorithm is the configuration's, never the token's. What a caller is told is one of three constant messages, and
// neither an error nor a log line ever holds a token.
package auth

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Algorithm is how tokens are signed, in the words of RFC 7518 and RFC 8037.
type Algorithm string

// The supported algorithms.
const (
	EdDSA Algorithm = "EdDSA" // Ed25519
	RS256 Algorithm = "RS256"
	HS256 Algorithm = "HS256" // a shared secret: whoever can check tokens can make them
)

const (
	// MaxLeeway is the largest difference between two clocks that can be configured to be overlooked.
	MaxLeeway = 2 * time.Minute
	// OperatorScope is the word in a token's scope claim that makes its bearer the control plane.
	OperatorScope = "operator"
	// maxToken is far more than our tokens have, and little enough to parse for anybody who asks.
	maxToken = 8 << 10
)

// Config says which tokens are good. Exactly one of KeyFile and JWKSFile is set.
type Config struct {
	Algorithm Algorithm
	KeyFile   string // PEM public key; for HS256 the secret, at least 32 bytes
	JWKSFile  string // JSON Web Key Set; a token names its key by kid
	Issuer    string // the iss claim wanted; empty for any
	Audience  string // an aud claim wanted; empty for any
	Leeway    time.Duration
	Now       func() time.Time // nil for the system's clock
}

// Verifier checks tokens. Its key file is read again when it changes.
type Verifier struct {
	parser *jwt.Parser
	keys   *keyFile
	leeway time.Duration
	log    *zap.Logger
}

// NewVerifier reads the keys and returns a verifier, or says what is wrong with the configuration or the file.
func NewVerifier(config Config, log *zap.Logger) (*Verifier, error) {
	if log == nil {
		log = zap.NewNop()
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Leeway < 0 || config.Leeway > MaxLeeway {
		return nil, fmt.Errorf("token leeway %s: must be between 0 and %s", config.Leeway, MaxLeeway)
	}
	keys, err := openKeyFile(config, log)
	if err != nil {
		return nil, err
	}
	return &Verifier{parser: newParser(config), keys: keys, leeway: config.Leeway, log: log}, nil
}

func newParser(config Config) *jwt.Parser {
	options := []jwt.ParserOption{
		jwt.WithValidMethods([]string{string(config.Algorithm)}),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(config.Leeway),
		jwt.WithTimeFunc(config.Now),
		jwt.WithStrictDecoding(),
	}
	if config.Issuer != "" {
		options = append(options, jwt.WithIssuer(config.Issuer))
	}
	if config.Audience != "" {
		options = append(options, jwt.WithAudience(config.Audience))
	}
	return jwt.NewParser(options...)
}

// Authenticate returns who sent the request. The error is of class errdefs.ErrUnauthenticated.
func (v *Verifier) Authenticate(r *http.Request) (agent.Caller, error) {
	token, err := bearer(r.Header)
	if err != nil {
		return agent.Caller{}, err
	}
	var claims claims
	if _, err := v.parser.ParseWithClaims(token, &claims, v.key); err != nil {
		v.log.Debug("token refused", zap.String("reason", reason(err)))
		if errors.Is(err, jwt.ErrTokenExpired) {
			return agent.Caller{}, expired()
		}
		return agent.Caller{}, invalid()
	}
	return agent.Caller{
		UserID: claims.Subject, Operator: slices.Contains(claims.Scope, OperatorScope), Expires: claims.ExpiresAt.Add(v.leeway),
	}, nil
}

// bearer takes the token out of the Authorization header.
func bearer(header http.Header) (string, error) {
	values := header.Values("Authorization")
	if len(values) > 1 {
		return "", invalid() // which of them counts is not for us to guess
	}
	if len(values) == 0 || values[0] == "" || values[0] == "Bearer" {
		return "", missing()
	}
	token, ok := strings.CutPrefix(values[0], "Bearer ")
	if ok && token == "" {
		return "", missing()
	}
	if !ok || len(token) > maxToken {
		return "", invalid()
	}
	return token, nil
}

// key is the jwt.Keyfunc: it finds the key that the token says it was signed with.
func (v *Verifier) key(token *jwt.Token) (any, error) {
	if _, critical := token.Header["crit"]; critical {
		return nil, errCritical // RFC 7515: what must be understood and is not, must be refused
	}
	id, _ := token.Header["kid"].(string)
	key, ok := v.keys.current().find(id)
	if !ok {
		return nil, errUnknownKey
	}
	return key, nil
}

// Why a token is refused, where the library has no words for it.
var (
	errCritical   = errors.New("critical header parameter")
	errUnknownKey = errors.New("unknown key id")
	errSubject    = errors.New("subject is not a user id")
)

// claims are what we read of a token.
type claims struct {
	jwt.RegisteredClaims
	Scope scopes `json:"scope"`
}

// Validate is called by the library after its own checks of the registered claims.
func (c *claims) Validate() error {
	if !userID.MatchString(c.Subject) {
		return errSubject
	}
	return nil
}

var userID = regexp.MustCompile(`^[0-9a-f]{24}$`)

func missing() error {
	return errdefs.New(errdefs.ErrUnauthenticated, "MISSING_TOKEN", "Authentication token required")
}

func invalid() error {
	return errdefs.New(errdefs.ErrUnauthenticated, "INVALID_TOKEN", "Invalid authentication token")
}

func expired() error {
	return errdefs.New(errdefs.ErrUnauthenticated, "TOKEN_EXPIRED", "Token has expired")
}

// reason says in constant words why a token was refused. The library's own texts may quote the token.
func reason(err error) string {
	for _, known := range []error{
		errCritical, errUnknownKey, jwt.ErrTokenMalformed, jwt.ErrTokenUnverifiable, jwt.ErrTokenSignatureInvalid, jwt.ErrTokenExpired,
		jwt.ErrTokenNotValidYet, jwt.ErrTokenUsedBeforeIssued, jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenInvalidIssuer,
		jwt.ErrTokenInvalidAudience, errSubject,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "refused"
}
