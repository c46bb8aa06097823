package api

import (
	"context"
	"net/http"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/api/contract"
)

// CopyContainer implements POST /api/v1/containers/{id}/copy.
func (s *server) CopyContainer(w http.ResponseWriter, r *http.Request, id contract.ID, _ contract.CopyContainerParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		body, err := decode[contract.CopyContainer](r)
		if err != nil {
			return response{}, err
		}
		request, err := copyRequest(body)
		if err != nil {
			return response{}, err
		}
		result, err := s.ops.Copy(ctx, caller, id, request)
		if err != nil {
			return response{}, err
		}
		return created("Container copy initiated successfully", copyView(result)), nil
	})
}

func copyRequest(body contract.CopyContainer) (agent.CopyRequest, error) {
	var broken rules
	broken.refuseVirtualization(body.KVM, body.DevKVM)
	if err := broken.asForbidden(); err != nil {
		return agent.CopyRequest{}, err
	}
	const notCarried = "carrying the source's rules to the copy is not supported yet; leave it out or send false"
	broken.refuse(value(body.CopyFirewallRules), "/copy_firewall_rules", notCarried)
	broken.refuse(value(body.CopyNetworkRules), "/copy_network_rules", notCarried)
	if err := broken.asUnsupported("Copying firewall or network rules is not supported yet"); err != nil {
		return agent.CopyRequest{}, err
	}
	key := broken.checkPublicKey("/ssh_public_key", body.SSHPublicKey)
	return agent.CopyRequest{
		TargetProjectID:   body.TargetProjectID,
		TargetServerID:    value(body.TargetServerID),
		Name:              value(body.Name),
		SSHPublicKey:      key,
		SourceSnapshot:    value(body.SourceSnapshot),
		CopyFirewallRules: value(body.CopyFirewallRules),
		CopyNetworkRules:  value(body.CopyNetworkRules),
	}, broken.asInvalid()
}

func copyView(result agent.CopyResult) contract.Container {
	view := containerView(result.View)
	view.CopyFirewallRules = new(result.View.Container.CopyFirewallRules)
	view.CopyNetworkRules = new(result.View.Container.CopyNetworkRules)
	view.OperationID = orNil(result.JobID)
	view.SSHPrivateKey = orNil(result.PrivateKey)
	return view
}

// SyncContainer implements POST /api/v1/containers/{id}/sync.
func (s *server) SyncContainer(w http.ResponseWriter, r *http.Request, id contract.ID, _ contract.SyncContainerParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		result, err := s.ops.Sync(ctx, caller, id)
		if err != nil {
			return response{}, err
		}
		return ok("Container sync initiated successfully", contract.SyncStarted{
			ContainerID:       result.ContainerID,
			SourceContainerID: result.SourceID,
			Status:            contract.ContainerStatus(result.Status),
			OperationID:       orNil(result.JobID),
		}), nil
	})
}

// CancelContainer implements POST /api/v1/containers/{id}/cancel.
func (s *server) CancelContainer(w http.ResponseWriter, r *http.Request, id contract.ID, _ contract.CancelContainerParams) {
	s.answer(w, r, func(ctx context.Context, caller agent.Caller) (response, error) {
		if err := s.ops.CancelOperation(ctx, caller, id); err != nil {
			return response{}, err
		}
		return done("Container operation cancelled successfully"), nil
	})
}
