package lxc

import (
	"context"
	"fmt"
	"maps"
	"regexp"

	incus "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"
	"go.uber.org/zap"

	"github.com/hoodynetwork/hoody-agent/internal/agent"
	"github.com/hoodynetwork/hoody-agent/internal/errdefs"
)

// Configuration keys of Incus that the agent gives a meaning to, beside agent.ConfigAutostart and agent.ConfigIDMap.
const (
	keyContainer     = "user.hoody.container" // the container id; its presence makes an instance ours
	keyProtected     = "security.protection.delete"
	keySchedule      = "snapshots.schedule"
	keyApplyTemplate = "volatile.apply_template"
)

// never is the snapshot schedule that overrides a profile's: the agent makes the snapshots. An empty value would not,
// since Incus does not store it.
const never = "@never"

const defaultProfile = "default"

// fingerprints are whole ones. Incus looks for what is not as a pattern, in which "_" stands for anything.
var fingerprints = regexp.MustCompile(`^[0-9a-f]{64}$`)

// CreateEmpty makes a stopped container whose dataset is an empty stub, meant to be replaced before the first start.
// The first start runs the image's "copy" templates (host name and the like) on what is there then.
// A taken name is ErrAlreadyExists, also when the instance there is the one asked for.
func (r *Runtime) CreateEmpty(ctx context.Context, spec agent.InstanceSpec) error {
	return r.run(ctx, "create", spec.Name, func(ctx context.Context) error {
		config := newConfig(spec)
		// Incus would note "create"; it keeps what it is given (DeferTemplateApply).
		config[keyApplyTemplate] = "copy"
		return r.create(ctx, spec, config, api.InstanceSource{Type: "none"})
	})
}

// CreateFromImage makes a stopped container from an image that this host's Incus holds, named by alias or by its whole
// fingerprint: what an admin has published under no name is not found by trying the beginnings of fingerprints. An unknown image is
// ErrNotFound, a virtual machine's ErrUnsupported.
func (r *Runtime) CreateFromImage(ctx context.Context, spec agent.InstanceSpec, image string) error {
	return r.run(ctx, "create-from-image", spec.Name, func(ctx context.Context) error {
		fingerprint, err := r.image(ctx, image)
		if err != nil {
			return err
		}
		source := api.InstanceSource{Type: "image", Fingerprint: fingerprint}
		return r.create(ctx, spec, newConfig(spec), source)
	})
}

func (r *Runtime) create(ctx context.Context, spec agent.InstanceSpec, config map[string]string, source api.InstanceSource) error {
	if err := agent.CheckVariables(config); err != nil {
		return err
	}
	device, root, err := r.rootDevice(ctx, spec.RootSize)
	if err != nil {
		return err
	}
	post := api.InstancesPost{
		Name:   spec.Name,
		Type:   api.InstanceTypeContainer,
		Source: source,
		InstancePut: api.InstancePut{
			Description: spec.Description,
			Profiles:    []string{defaultProfile},
			Config:      config,
			Devices:     api.DevicesMap{device: root},
		},
	}
	err = r.whenIdle(ctx, spec.Name, func(ctx context.Context) error {
		return r.operate(ctx, func(server incus.InstanceServer) (incus.Operation, error) {
			return server.CreateInstance(post)
		})
	})
	if is(err, errdefs.ErrAlreadyExists) {
		// It may be half made, by a request that an earlier life of the agent sent: the caller is about to look.
		if _, waitErr := r.awaitCreation(ctx, spec.Name); waitErr != nil {
			r.log.Warn("cannot wait for an instance being made", zap.String("instance", spec.Name), zap.Error(waitErr))
		}
	}
	return err
}

// newConfig is the configuration an instance is born with.
func newConfig(spec agent.InstanceSpec) map[string]string {
	config := PortableConfig(spec.Config)
	maps.Copy(config, map[string]string{
		keyContainer:          spec.ContainerID,
		agent.ConfigAutostart: "false",
		keyProtected:          "true",
		keySchedule:           never,
	})
	for name, value := range spec.Env {
		config[agent.ConfigEnvironment+name] = value
	}
	if spec.IDMap != "" {
		config[agent.ConfigIDMap] = spec.IDMap
	}
	return config
}

// rootDevice returns name and settings of the root disk for a new instance. It is always set on the instance itself,
// so that it does not move when a profile changes; but it takes the default profile's name for it, since Incus refuses
// a second root disk, and its settings, such as the size unless one is given, since they would no longer apply.
func (r *Runtime) rootDevice(ctx context.Context, size string) (string, map[string]string, error) {
	var profile *api.Profile
	err := r.exchange(ctx, func(server incus.InstanceServer) (err error) {
		profile, _, err = server.GetProfile(defaultProfile)
		return err
	})
	if err != nil {
		return "", nil, err
	}
	name, root := rootDisk(profile.Devices)
	if root == nil {
		name, root = "root", map[string]string{"type": "disk", "path": "/"}
	}
	root = maps.Clone(root)
	root["pool"] = r.options.Pool
	if size != "" {
		root["size"] = size
	}
	return name, root, nil
}

// image finds the fingerprint of a local image.
func (r *Runtime) image(ctx context.Context, name string) (string, error) {
	fingerprint := name
	err := r.exchange(ctx, func(server incus.InstanceServer) error {
		alias, _, err := server.GetImageAlias(name)
		if err == nil {
			fingerprint = alias.Target
		}
		return err
	})
	if err != nil && (!is(err, errdefs.ErrNotFound) || !fingerprints.MatchString(name)) {
		return "", fmt.Errorf("image %q: %w", name, err)
	}
	var image *api.Image
	err = r.exchange(ctx, func(server incus.InstanceServer) (err error) {
		image, _, err = server.GetImage(fingerprint)
		return err
	})
	switch {
	case is(err, errdefs.ErrNotFound):
		return "", fmt.Errorf("image %q: %w", name, err)
	case err != nil:
		return "", err
	case image.Type != string(api.InstanceTypeContainer):
		return "", fmt.Errorf("image %q is for a %s: %w", name, image.Type, errdefs.ErrUnsupported)
	}
	return image.Fingerprint, nil
}
