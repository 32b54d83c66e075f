package opstest

import (
	"net"
	"strings"
	"testing"

	"davidcockson.com/runner/internal/peertest"
)

// TestAPortThatIsTakenEndsTheStart has another program listen on ops_listen: the
// worker must end and say so, not go on half blind.
func TestAPortThatIsTakenEndsTheStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWorld(t, echo, "RUNNER_OPS_LISTEN="+l.Addr().String())
	p := peertest.Start(t, w.command("worker"))
	w.until("it ends", p.Log.String, p.Ended)
	if code := p.Cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("it ended with %v, want exit code 1", p.Cmd.ProcessState)
	}
	if !strings.Contains(p.Log.String(), "ops_listen") {
		t.Errorf("it says:\n%s", p.Log)
	}
}
