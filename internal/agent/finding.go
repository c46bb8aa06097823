package agent

import (
	"sync"
	"time"
)

// Finding is something that is not as the records say, for people to know of. It is never acted on by destroying.
type Finding struct {
	Code   string    `json:"code"`   // one of the Finding… constants
	Object string    `json:"object"` // container id, dataset or instance
	Text   string    `json:"text"`   // what is the case
	Hint   string    `json:"hint"`   // what to do about it
	Since  time.Time `json:"since"`
}

// degradation is why the records are not trusted, as of the last check, and what is not done for that.
type degradation struct {
	mu        sync.Mutex
	finding   *Finding        // nil: they are
	suspended map[string]bool // jobs that are not continued: open when records were read that the agent does not trust
	over      chan struct{}   // says that they are trusted again
}
