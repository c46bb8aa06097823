package agent

import (
	"errors"

	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
	"github.com/hoodynetwork/hoody-agent/internal/identity"
	"github.com/hoodynetwork/hoody-agent/internal/store"
)

// A project claims its alias among its owner's, whoever gives it. A container claims its name within its project and its SSH key within the fleet. A claim that is made again is kept, one that is given
// back twice is no error.

func claimAlias(tx *store.Tx, project store.Project) error {
	err := tx.ClaimUnique(store.UniqueProjectAlias, project.UserID, project.Alias, project.ID)
	return taken(err, "DUPLICATE_ALIAS", "Project alias already exists")
}

func releaseAlias(tx *store.Tx, project store.Project) error {
	return tx.ReleaseUnique(store.UniqueProjectAlias, project.UserID, project.Alias, project.ID)
}

func claimName(tx *store.Tx, container store.Container) error {
	err := tx.ClaimUnique(store.UniqueContainerName, container.ProjectID, container.Name, container.ID)
	return taken(err, "CONTAINER_NAME_IN_USE", "Container name already in use in this project")
}

func releaseName(tx *store.Tx, container store.Container) error {
	return tx.ReleaseUnique(store.UniqueContainerName, container.ProjectID, container.Name, container.ID)
}

func claimKey(tx *store.Tx, container store.Container) error {
	fingerprint, err := fingerprintOf(container.SSHPublicKey)
	if err != nil {
		return invalidField("/ssh_public_key", "must be one SSH public key in authorized_keys form").WithCause(err)
	}
	if fingerprint == "" {
		return nil
	}
	return taken(tx.ClaimUnique(store.UniqueSSHKey, "", fingerprint, container.ID), "SSH_PUBLIC_KEY_IN_USE", "SSH public key already in use")
}

func releaseKey(tx *store.Tx, container store.Container) error {
	fingerprint, err := fingerprintOf(container.SSHPublicKey)
	if err != nil || fingerprint == "" {
		return err
	}
	return tx.ReleaseUnique(store.UniqueSSHKey, "", fingerprint, container.ID)
}

// fingerprintOf is what keys are told apart by; empty for none.
func fingerprintOf(key string) (string, error) {
	if key == "" {
		return "", nil
	}
	return identity.Fingerprint(key)
}

// sameKey tells whether two keys differ at most in their comments.
func sameKey(one, other string) (bool, error) {
	first, err := fingerprintOf(one)
	if err != nil {
		return false, err
	}
	second, err := fingerprintOf(other)
	return first == second, err
}

// taken gives the refusal of a claim that somebody else has its code.
func taken(err error, code, message string) error {
	if errors.Is(err, errdefs.ErrAlreadyExists) {
		return errdefs.New(errdefs.ErrAlreadyExists, code, "%s", message).WithCause(err)
	}
	return err
}
