// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench/internal/image"
)

func imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "build or show the container image with the tools",
		Long: `image makes the container image that agents and endpoints run, without any image registry: from signed packages of the
mirror that apt is configured with. It is kept in a cache; run builds it when it is not there.`,
		Example: "  econbench image build\n  econbench image show",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(imageBuildCommand(), imageShowCommand())
	return cmd
}

// imageFlags name an image.
type imageFlags struct{ recipe, cacheDir string }

func (f *imageFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.recipe, "recipe", image.Tools().Name, "`name` of the image's recipe")
	cmd.Flags().StringVar(&f.cacheDir, "cache-dir", "", "`folder` for packages and images (default: "+image.DefaultCacheDir()+")")
}

func imageBuildCommand() *cobra.Command {
	var f imageFlags
	var refresh bool
	cmd := &cobra.Command{
		Use:     "build",
		Short:   "build the image, or find it in the cache",
		Example: "  econbench image build\n  econbench image build --refresh    # with the packages' newest versions",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			recipe, err := image.Lookup(f.recipe)
			if err != nil {
				return err
			}
			p := newProgress(cmd.ErrOrStderr(), false)
			start, stage := time.Now(), ""
			img, err := image.Build(cmd.Context(), recipe, image.Options{
				CacheDir: f.cacheDir, Refresh: refresh,
				Progress: func(at image.Progress) {
					if at.Stage != stage {
						stage = at.Stage
						p.Step(stage)
					}
				},
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s  %d packages, %.1f MB, %s, in %.1f s\n%s\n", img.Ref, len(img.Manifest.Packages),
				float64(img.Size)/1e6, img.Digest, time.Since(start).Seconds(), img.Path)
			return err
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&refresh, "refresh", false, "ask the mirror even if an image is cached")
	return cmd
}

func imageShowCommand() *cobra.Command {
	var f imageFlags
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "show what the cached image is made of, as JSON",
		Example: "  econbench image show\n  econbench image show --recipe postgres",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			recipe, err := image.Lookup(f.recipe)
			if err != nil {
				return err
			}
			img, err := image.Cached(recipe, image.Options{CacheDir: f.cacheDir})
			if errors.Is(err, image.ErrNotCached) {
				return fmt.Errorf("%w: econbench image build makes it", err)
			}
			if err != nil {
				return err
			}
			return writeJSON(cmd.OutOrStdout(), img.Manifest)
		},
	}
	f.register(cmd)
	return cmd
}
