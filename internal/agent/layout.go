package agent

import (
	"context"
	"errors"
	"strings"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/lineage"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// Where the agent keeps what is not an instance. Everything of its own lives below one child of the pool's root,
// which the runtime does not look at (Incus lists only containers, custom, images, buckets and virtual-machines).
const (
	containersParent  = "containers" // the runtime's, see InstanceDataset
	containersPrefix  = containersParent + "/"
	incomingParent    = poolParent + "/incoming"
	incomingPrefix    = incomingParent + "/"
	generationsParent = poolParent + "/generations"
	generationsPrefix = generationsParent + "/"
)

// Local user properties that tell what a dataset is. Children inherit user properties, so only local values count.
const (
	propertyRole      = "hoody:role"
	propertyContainer = "hoody:container"
	propertyJob       = "hoody:job"
	propertyOwner     = "hoody:owner" // the user whose data it holds: blocks are never shared across owners
)

// Values of hoody:role.
const (
	roleParent     = "parent"     // holds the agent's datasets
	roleReplica    = "replica"    // received snapshots; never written to
	roleImage      = "image"      // a replica of the image that a lineage starts from: several owners may bring the same one
	roleGeneration = "generation" // a container's writable state, current, incoming or displaced
)

// prepareLayout makes the places for the agent's datasets where they are missing.
func prepareLayout(ctx context.Context, pool Pool) error {
	inventory, err := pool.Inventory(ctx)
	if err != nil {
		return err
	}
	for _, name := range []string{poolParent, incomingParent, generationsParent, recordsDataset} {
		if _, exists := inventory.Dataset(name); exists {
			continue
		}
		err := pool.Create(ctx, name, Properties{propertyRole: roleParent})
		if err != nil && !errors.Is(err, errdefs.ErrAlreadyExists) {
			return err
		}
	}
	return nil
}

// generationProperties are set on every dataset that a container will run on.
func generationProperties(container store.Container, jobID string) Properties {
	return Properties{
		propertyRole:      roleGeneration,
		propertyContainer: container.ID,
		propertyJob:       jobID,
		propertyOwner:     container.OwnerID,
		"atime":           "off", // reading must not look like a change
	}
}

func incomingDataset(jobID string) string   { return incomingPrefix + jobID }
func generationDataset(jobID string) string { return generationsPrefix + jobID }

// belowAContainer tells whether a dataset lies in one that a container runs on.
func belowAContainer(dataset string) bool {
	name, ours := strings.CutPrefix(dataset, containersPrefix)
	return ours && strings.Contains(name, "/")
}

// heldByOthers filters a pool's holdings to what an owner must not bring under the same GUID: what is not his, apart from
// images, which his containers and a stranger's may both be made from. Each owner brings an image of his own.
func heldByOthers(inventory lineage.Inventory, owner string) lineage.Inventory {
	var others lineage.Inventory
	for _, dataset := range inventory.Datasets {
		if dataset.Properties[propertyOwner] != owner && dataset.Properties[propertyRole] != roleImage {
			others.Datasets = append(others.Datasets, dataset)
		}
	}
	return others
}

// ownedBy filters a pool's holdings to what one owner's lineage may build on. A GUID that a peer names counts as held
// only where this agent itself recorded that the data is that owner's: nobody gets another's blocks by claiming a GUID. Below a
// container's own dataset it has recorded nothing: if that is delegated, labels there are the container's.
func ownedBy(inventory lineage.Inventory, owner string) lineage.Inventory {
	var own lineage.Inventory
	for _, dataset := range inventory.Datasets {
		if dataset.Properties[propertyOwner] == owner && !belowAContainer(dataset.Name) {
			own.Datasets = append(own.Datasets, dataset)
		}
	}
	return own
}
