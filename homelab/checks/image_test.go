package checks

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"davidcockson.com/runner/homelab/internal/peer"
)

// bundle is Debian's, of the package ca-certificates.
const bundle = "/etc/ssl/certs/ca-certificates.crt"

// The image's root is laid out as its Dockerfile says, and runner is run with it as its
// root: it has the certificates that it trusts from there, and from nowhere else.
func TestRunnerInItsImageTrustsTheBundleThatIsInIt(t *testing.T) {
	if os.Geteuid() != 0 {
		peer.Absent(t, "only root can run a program in another root")
	}
	certificates, err := os.ReadFile(bundle)
	if err != nil {
		peer.Absent(t, "no "+bundle+": Debian's package ca-certificates")
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"object":"list","data":[{"id":"m1","object":"model"}]}`)
	}))
	t.Cleanup(server.Close)
	ours := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	binary := filepath.Join(t.TempDir(), "runner")
	build := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-o", binary, "./cmd/runner")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build runner: %v: %s", err, out)
	}

	for _, row := range []struct {
		name    string
		bundle  []byte
		trusted bool
	}{
		{"a CA of the bundle is trusted", append(certificates, ours...), true},
		{"a CA that is not in it is not", certificates, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			root := layOut(t, map[string][]byte{"runner": read(t, binary), "ca-certificates.crt": row.bundle})
			config := fmt.Sprintf("vault: /vault\nstate_dir: /state\nproviders:\n  - {name: remote, kind: openai, url: %q, models: [{name: m1}]}\n", server.URL+"/v1")
			for _, dir := range []string{"vault", "state", "etc/runner", "tmp"} {
				if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(root, "etc/runner/runner.yaml"), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := inRoot(root, "init"); err != nil {
				t.Fatalf("runner init: %v: %s", err, out)
			}
			// What check makes of a provider that it cannot reach is the product's business;
			// here it counts whether it reached it.
			out, err := inRoot(root, "check")
			reached, refused := strings.Contains(out, "ok    provider remote"), strings.Contains(out, "certificate")
			if reached != row.trusted || refused == row.trusted {
				t.Errorf("runner check: %v: %s", err, out)
			}
		})
	}
}

// inRoot runs the image's program with root as its root.
func inRoot(root string, args ...string) (string, error) {
	command := exec.Command("/runner", args...)
	command.Dir = "/"
	command.Env = []string{"PATH=/"}
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	out, err := command.CombinedOutput()
	return string(out), err
}

// layOut makes the root folder that contabo/Dockerfile describes, from what lies beside
// it when it is built. It knows FROM scratch and COPY, which is all that file may have.
func layOut(t *testing.T, beside map[string][]byte) string {
	t.Helper()
	root := t.TempDir()
	for line := range strings.Lines(string(read(t, "../contabo/Dockerfile"))) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "ENTRYPOINT") || strings.HasPrefix(line, "CMD"):
		case line == "FROM scratch\n":
		case words[0] == "COPY" && len(words) == 3 && beside[words[1]] != nil:
			to := filepath.Join(root, words[2])
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(to, beside[words[1]], 0o755); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("the Dockerfile says what this test does not know: %s", line)
		}
	}
	return root
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
