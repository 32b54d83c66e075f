package killtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"davidcockson.com/runner/internal/control"
	"davidcockson.com/runner/internal/peertest"
)

// service is the product's worker as it is run on a server.
type service struct {
	*peertest.Process
	socket string
}

// serve starts the product's worker on a world's vault; further lines are added to
// its configuration.
func (w *world) serve(stateDir, further string) *service {
	w.t.Helper()
	file, err := os.CreateTemp(w.t.TempDir(), "*.yaml")
	if err != nil {
		w.t.Fatal(err)
	}
	fmt.Fprintf(file, "vault: %q\nstate_dir: %q\nguard: 0s\nlisten: 127.0.0.1:0\nops_listen: 127.0.0.1:0\nproviders: [{name: echo, kind: echo}]\n%s", w.Vault, stateDir, further)
	if err := file.Close(); err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(peertest.Build(w.t), "worker", "--config", file.Name())
	cmd.Env = peertest.Environ()
	return &service{peertest.Start(w.t, cmd), filepath.Join(stateDir, "runner.sock")}
}

// until waits for a condition.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	peertest.Until(w.t, what, w.state, cond)
}

// ready says whether the worker answers on its socket.
func (s *service) ready() bool {
	_, err := control.Dial(s.socket).Status(context.Background())
	return err == nil
}
