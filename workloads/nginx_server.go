// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
	generator "github.com/econbench/econbench/internal/load"
)

// nginxServer is a real nginx. Each workload has one of its own, with a folder and ports of its own: on the first port it tells its count of
// requests (stub_status), the second one has the load alone.
type nginxServer struct {
	name    string
	control int
	port    int
	own     string // further lines of the server's configuration
}

// Sizes of files that a server has: powers of two in this range, and filesOfSize of each. Together they take 32 MiB of the endpoint's
// folder in memory.
const (
	smallestFile = 64
	largestFile  = 4 << 20
	filesOfSize  = 4
)

// generatedBody is the answer that nginx makes without a file.
const generatedBody = "ok"

// Serve writes files and configuration, and starts it. The shell becomes nginx, so that its end is seen.
func (n nginxServer) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	at := tb.Server()
	folder := path.Join(econbench.ScratchDir, n.name)
	script := "set -e; mkdir -p " + folder + "\n" +
		"for size in $2; do mkdir -p " + folder + "/$size; for i in $3; do head -c $size /dev/zero >" + folder + "/$size/$i; done; done\n" +
		"printf %s \"$1\" >" + folder + "/nginx.conf\n" +
		"exec nginx -p " + folder + " -e stderr -c " + folder + "/nginx.conf\n"
	var sizes, files []string
	for size := smallestFile; size <= largestFile; size *= 2 {
		sizes = append(sizes, fmt.Sprintf("%07d", size))
	}
	for i := range filesOfSize {
		files = append(files, strconv.Itoa(i))
	}
	return serve(ctx, at, n.port, "sh", "-c", script, "nginx", n.config(folder, at.Addr.String(), serverCPUs(at)),
		strings.Join(sizes, " "), strings.Join(files, " "))
}

// config is nginx's configuration: what tuning guides agree on, and nothing that goes away by itself within a run. It logs no
// request, as all its time is to go into serving.
func (n nginxServer) config(folder, address string, workers int) string {
	return fmt.Sprintf(`daemon off;
user www-data;
worker_processes %d;
pid %s/nginx.pid;
events { worker_connections 4096; }
http {
	access_log off;
	server_tokens off;
	etag off;
	sendfile on;
	tcp_nopush on;
	tcp_nodelay on;
	keepalive_timeout 1h;
	keepalive_requests 1000000000;
	open_file_cache max=200 inactive=1h;
	default_type application/octet-stream;
	server {
		listen %s:%d backlog=4096;
		%s
		root %s;
		location /%07d/ { return 200 %q; }
	}
	server {
		listen %s:%d;
		location = %s { stub_status; }
	}
}
`, workers, folder, address, n.port, n.own, folder, 0, generatedBody, address, n.control, generator.StatusPath)
}

// nginxPaths are the paths of a size's files, all equally long, so that every request has as many bytes.
func nginxPaths(size int) []string {
	paths := make([]string, filesOfSize)
	for i := range paths {
		paths[i] = fmt.Sprintf("/%07d/%d", size, i)
	}
	return paths
}

// nginxBody is how long an answer's body is, B.
func nginxBody(size int) int {
	if size == 0 {
		return len(generatedBody)
	}
	return size
}

// sizeParam is the size of the files that are asked for.
func sizeParam(most int64) param {
	whole := param{min: 0, max: most, bytes: true}
	return param{name: "size", text: "1024", read: func(s string) (string, error) {
		n, err := whole.parse(s)
		if err != nil || n != 0 && (n < smallestFile || n&(n-1) != 0) {
			return "", fmt.Errorf("%q: want 0, for an answer without a file, or a power of two from %d to %d bytes, as in 128 or 16k", s, smallestFile, most)
		}
		return strconv.FormatInt(n, 10), nil
	}}
}
