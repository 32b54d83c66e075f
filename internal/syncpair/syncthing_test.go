package syncpair

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"davidcockson.com/runner/internal/peertest"
)

// syncthing is one peer: a process with a home of its own, on loopback alone.
type syncthing struct {
	t            *testing.T
	name, home   string
	vault        string
	id           string
	listen, rest string
	dial         string // where the other peer finds it
}

const apiKey = "only-for-this-test"

func newSyncthing(t *testing.T, program, name string) *syncthing {
	t.Helper()
	s := &syncthing{t: t, name: name, home: filepath.Join(t.TempDir(), "home"), vault: filepath.Join(t.TempDir(), "vault"), listen: peertest.Address(t), rest: peertest.Address(t)}
	// The marker says that this is the folder and not an empty mount point.
	if err := os.MkdirAll(filepath.Join(s.vault, ".stfolder"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "generate", "--home="+s.home, "--no-default-folder", "--skip-port-probing").CombinedOutput(); err != nil {
		t.Fatalf("make the keys of %s: %v\n%s", name, err, out)
	}
	id, err := exec.Command(program, "--home="+s.home, "--device-id").Output()
	if err != nil {
		t.Fatalf("ask for the id of %s: %v", name, err)
	}
	s.id = strings.TrimSpace(string(id))
	return s
}

// start writes the configuration and starts the process: no relays, no
// announcements, no upgrades and no reports.
func (s *syncthing) start(program string, other *syncthing) {
	s.t.Helper()
	var devices string
	for _, d := range []*syncthing{s, other} {
		devices += fmt.Sprintf(`<device id="%s" name="%s" compression="metadata"><address>%s</address></device>`, d.id, d.name, d.dial)
	}
	config := fmt.Sprintf(`<configuration version="36">
<folder id="vault" label="vault" path="%s" type="sendreceive" rescanIntervalS="5" fsWatcherEnabled="true" fsWatcherDelayS="1">
<filesystemType>basic</filesystemType><device id="%s"></device><device id="%s"></device>
<pullerPauseS>1</pullerPauseS><minDiskFree unit="">0</minDiskFree><maxConflicts>10</maxConflicts><markerName>.stfolder</markerName>
</folder>
%s
<gui enabled="true" tls="false"><address>%s</address><apikey>%s</apikey></gui>
<options>
<listenAddress>tcp://%s</listenAddress>
<globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>
<relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><stunKeepaliveStartS>0</stunKeepaliveStartS>
<urAccepted>-1</urAccepted><crashReportingEnabled>false</crashReportingEnabled>
<autoUpgradeIntervalH>0</autoUpgradeIntervalH><startBrowser>false</startBrowser>
<reconnectionIntervalS>1</reconnectionIntervalS><minHomeDiskFree unit="">0</minHomeDiskFree>
</options>
</configuration>
`, s.vault, s.id, other.id, devices, s.rest, apiKey, s.listen)
	if err := os.WriteFile(filepath.Join(s.home, "config.xml"), []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", "--home="+s.home, "--no-browser", "--no-restart", "--no-upgrade", "--no-default-folder")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it starts processes of its own
	peertest.Start(s.t, cmd)
}

// call asks the REST interface; into may be nil.
func (s *syncthing) call(method, path string, query url.Values, into any) error {
	req, err := http.NewRequest(method, "http://"+s.rest+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-API-Key", apiKey)
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, body)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

// connected says whether the link to the other peer is up.
func (s *syncthing) connected(other *syncthing) bool {
	var answer struct {
		Connections map[string]struct{ Connected bool }
	}
	err := s.call(http.MethodGet, "/rest/system/connections", nil, &answer)
	return err == nil && answer.Connections[other.id].Connected
}

// idle says whether the folder is scanned and nothing is wanted from the other.
func (s *syncthing) idle() bool {
	var answer struct {
		State     string
		NeedTotal int `json:"needTotalItems"`
	}
	err := s.call(http.MethodGet, "/rest/db/status", url.Values{"folder": {"vault"}}, &answer)
	return err == nil && answer.State == "idle" && answer.NeedTotal == 0
}

// cut pauses the link to the other peer, and heal resumes it.
func (s *syncthing) cut(other *syncthing) {
	s.t.Helper()
	if err := s.call(http.MethodPost, "/rest/system/pause", url.Values{"device": {other.id}}, nil); err != nil {
		s.t.Fatal(err)
	}
	peertest.Until(s.t, "the link is cut", nil, func() bool { return !s.connected(other) })
}

func (s *syncthing) heal(other *syncthing) {
	s.t.Helper()
	if err := s.call(http.MethodPost, "/rest/system/resume", url.Values{"device": {other.id}}, nil); err != nil {
		s.t.Fatal(err)
	}
	peertest.Until(s.t, "the link is healed", nil, func() bool { return s.connected(other) })
}

// write makes or replaces a file of the vault as an editor does, in place.
func (s *syncthing) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.vault, name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// has says whether the vault has a file.
func (s *syncthing) has(name string) bool {
	_, err := os.Lstat(filepath.Join(s.vault, name))
	return err == nil
}
