// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/volume"
)

// ImportTimeout bounds the import of an image.
const ImportTimeout = 3 * time.Minute

// ImageDigest is the LabelDigest of the image known to the engine by ref; "" when it has none.
func (e *Engine) ImageDigest(ctx context.Context, ref string) (digest string, err error) {
	err = e.step(ctx, "inspect image "+ref, func(ctx context.Context) error {
		got, err := e.api.ImageInspect(ctx, ref)
		if errdefs.IsNotFound(err) {
			return nil
		}
		if err == nil && got.Config != nil {
			digest = got.Config.Labels[LabelDigest]
		}
		return err
	})
	return digest, err
}

// ImportImage makes an image of a root file system's tar. changes are Dockerfile instructions.
func (e *Engine) ImportImage(ctx context.Context, ref, digest string, tar io.Reader, changes []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, ImportTimeout, fmt.Errorf("not done in %v", ImportTimeout))
	defer cancel()
	changes = append([]string{fmt.Sprintf("LABEL %s=%s", LabelDigest, digest)}, changes...)
	body, err := e.api.ImageImport(ctx, image.ImportSource{Source: tar, SourceName: "-"}, ref, image.ImportOptions{Changes: changes})
	if err != nil {
		return e.wrap("import image "+ref, err)
	}
	defer body.Close()
	if _, err := io.Copy(io.Discard, body); err != nil {
		return e.wrap("import image "+ref, err)
	}
	got, err := e.ImageDigest(ctx, ref)
	if err == nil && got != digest {
		err = fmt.Errorf("engine %s: import image %s: the engine has digest %q afterwards, want %q", e.host, ref, got, digest)
	}
	return err
}

// LabelledVolumes lists the names of the volumes that carry a label.
func (e *Engine) LabelledVolumes(ctx context.Context, label string) (names []string, err error) {
	err = e.step(ctx, "list volumes", func(ctx context.Context) error {
		list, err := e.api.VolumeList(ctx, volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", label))})
		for _, v := range list.Volumes {
			names = append(names, v.Name)
		}
		return err
	})
	return names, err
}

// RemoveVolume removes a volume; one that is gone already is fine.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	return e.step(ctx, "remove volume "+name, func(ctx context.Context) error {
		err := e.api.VolumeRemove(ctx, name, false)
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
}
