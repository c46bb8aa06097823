package agent

import (
	"regexp"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/lineage"
)

// ofJob is the name of what a job makes: a generation, or a replica with its number.
var ofJob = regexp.MustCompile(`^hoody/(incoming|generations)/[0-9a-f]{32}(-[0-9]{4})?$`)

// ForeignDatasets lists what is below the agent's place in the pool and is not its own: neither marked as such nor named
// like something that a job made. (The runtime makes the stub of a new instance, which has no mark, and a swap moves it there.)
func ForeignDatasets(inventory lineage.Inventory) []string {
	var foreign []string
	for _, dataset := range inventory.Datasets {
		below := strings.HasPrefix(dataset.Name, poolParent+"/")
		if below && dataset.Properties[propertyRole] == "" && !ofJob.MatchString(dataset.Name) {
			foreign = append(foreign, dataset.Name)
		}
	}
	return foreign
}
