package ansible

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"davidcockson.com/runner/homelab/internal/peer"
)

// Two real Syncthings on addresses of the loopback range, set up and paired by the
// deployment's own tasks.
func TestTwoSyncthingsArePaired(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	program := peer.Need(t, "syncthing")
	net24 := loopback(3)
	first, second := net24+"210", net24+"220"
	for name, address := range map[string]string{"first": first, "second": second} {
		l.syncthing(t, program, name, address)
		l.settings[name], l.settings[name+"_vault"] = address, l.path(name+"-vault")
	}
	pair := func() outcome {
		book, err := filepath.Abs("testdata/syncthing.yml")
		if err != nil {
			t.Fatal(err)
		}
		return l.play(t, book)
	}
	if o := pair(); o.err != nil || o.changed() == 0 {
		t.Fatal(o.text)
	}
	l.write(t, "first-vault/_queue/note.md", "a note\n")
	l.get(t, "POST", first, "key-of-the-first", "/rest/db/scan?folder=vault", nil)
	l.until(t, "the note has reached the other vault", func() bool {
		text, err := os.ReadFile(l.path("second-vault/_queue/note.md"))
		return err == nil && string(text) == "a note\n"
	})
	if o := pair(); o.err != nil || o.changed() != 0 {
		t.Errorf("a second run changed %d: %s", o.changed(), o.text)
	}

	t.Run("no way but the one to the peer is open", func(t *testing.T) {
		var options struct {
			GlobalAnnounceEnabled, RelaysEnabled, NatEnabled, LocalAnnounceEnabled bool
			ListenAddresses                                                        []string
		}
		l.get(t, "GET", first, "key-of-the-first", "/rest/config/options", &options)
		if options.GlobalAnnounceEnabled || options.RelaysEnabled || options.NatEnabled || options.LocalAnnounceEnabled ||
			strings.Join(options.ListenAddresses, " ") != "tcp://"+first+":22000 quic://"+first+":22000" {
			t.Errorf("%+v", options)
		}
	})
	t.Run("the page wants its password", func(t *testing.T) {
		signIn(t, first, map[string]int{"password-of-the-first": 200, "": 401, "another": 401})
	})
	t.Run("another password in the vault is the page's after the next run", func(t *testing.T) {
		l.settings["first_password"] = "another-of-the-first"
		if o := pair(); o.err != nil || o.changed() != 1 {
			t.Errorf("it changed %d: %s", o.changed(), o.text)
		}
		signIn(t, first, map[string]int{"another-of-the-first": 200, "password-of-the-first": 401})
	})
	t.Run("a further device of the folder stays", func(t *testing.T) {
		const phone = "AIR6LPZ-7K4PTTV-UXQSMUU-CPQ5YWH-OEDFIIQ-JUG777G-2YQXXR5-YD6AWQR"
		var folder map[string]any
		l.get(t, "GET", second, "key-of-the-second", "/rest/config/folders/vault", &folder)
		folder["devices"] = append(folder["devices"].([]any), map[string]any{"deviceID": phone})
		l.send(t, "PUT", second, "key-of-the-second", "/rest/config/devices/"+phone, map[string]any{"deviceID": phone})
		l.send(t, "PUT", second, "key-of-the-second", "/rest/config/folders/vault", folder)
		if o := pair(); o.err != nil || o.changed() != 0 {
			t.Errorf("it changed %d: %s", o.changed(), o.text)
		}
		l.get(t, "GET", second, "key-of-the-second", "/rest/config/folders/vault", &folder)
		if n := len(folder["devices"].([]any)); n != 3 {
			t.Errorf("the folder has %d devices", n)
		}
	})
}

// signIn asks for the page with each password and wants that status.
func signIn(t *testing.T, address string, passwords map[string]int) {
	t.Helper()
	for password, want := range passwords {
		request, err := http.NewRequest("GET", "http://"+address+":8384/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			request.SetBasicAuth("admin", password)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("password %q: status %d", password, response.StatusCode)
		}
	}
}

// syncthing starts one as the unit does, and ends it with the test.
func (l *lab) syncthing(t *testing.T, program, name, address string) {
	t.Helper()
	home := "--home=" + l.path(name+"-home")
	generate := l.command(t.Context(), program, "generate", home, "--no-default-folder", "--gui-user=admin", "--gui-password=-")
	generate.Stdin = strings.NewReader("password-of-the-" + name)
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	serve := l.command(t.Context(), program, "serve", "--no-browser", "--no-restart", "--logflags=0", home)
	serve.Env = append(serve.Env, "STGUIADDRESS="+address+":8384", "STGUIAPIKEY=key-of-the-"+name, "STNOUPGRADE=1")
	serve.Cancel = func() error { return serve.Process.Signal(os.Interrupt) }
	serve.WaitDelay = 10 * time.Second
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = serve.Wait() }) // it was interrupted: the context ends before
}

// until waits for a condition, for a minute.
func (l *lab) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("a minute has passed before %s", what)
		}
	}
}

func (l *lab) get(t *testing.T, method, address, key, path string, into any) {
	t.Helper()
	l.ask(t, method, address, key, path, "", into)
}

func (l *lab) send(t *testing.T, method, address, key, path string, body any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	l.ask(t, method, address, key, path, string(text), nil)
}

func (l *lab) ask(t *testing.T, method, address, key, path, body string, into any) {
	t.Helper()
	request, err := http.NewRequest(method, "http://"+address+":8384"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-API-Key", key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != 200 {
		t.Fatalf("%s %s: status %d", method, path, response.StatusCode)
	}
	if into != nil {
		if err := json.NewDecoder(response.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
}
