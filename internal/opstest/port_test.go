package opstest

import (
	"net"
	"os/exec"
	"strings"
	"testing"
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
	out := new(log)
	cmd := w.command("worker")
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer cmd.Process.Kill()
	var end error
	w.until("it ends", out.String, func() bool {
		select {
		case end = <-ended:
			return true
		default:
			return false
		}
	})
	if _, failed := end.(*exec.ExitError); !failed {
		t.Errorf("it ended with %v", end)
	}
	if !strings.Contains(out.String(), "ops_listen") {
		t.Errorf("it says:\n%s", out)
	}
}
