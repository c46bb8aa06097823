package lineage

// Node is one snapshot of a source's history with its place in it.
type Node struct {
	GUID     GUID   `json:"guid"`
	Parent   GUID   `json:"parent"`   // the next older snapshot of its dataset, or that dataset's origin; 0 for none
	Dataset  string `json:"dataset"`  // on the source
	Name     string `json:"name"`     // short name
	Bookmark bool   `json:"bookmark"` // identity only: can be a base, cannot be sent
}

// Step is one stream: one snapshot, in full or as the difference from a base, into a dataset of the target.
type Step struct {
	GUID   GUID   `json:"guid"`   // what arrives
	Send   string `json:"send"`   // source: "dataset@snapshot"
	Base   GUID   `json:"base"`   // 0 for a full stream
	From   string `json:"from"`   // source: "dataset@snapshot" or "dataset#bookmark"; empty for a full stream
	Target string `json:"target"` // target: "dataset@snapshot" to be made
	Origin string `json:"origin"` // target: "dataset@snapshot" that the step's new dataset is cloned from; empty when it is not a clone or continues a dataset of this plan
}

// Continues tells that the step goes on with a dataset that one before it began.
func (s Step) Continues() bool { return s.Base != 0 && s.Origin == "" }
