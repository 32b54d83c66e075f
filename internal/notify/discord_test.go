package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"davidcockson.com/runner/internal/secret"
)

func TestEachAnswerOfDiscord(t *testing.T) {
	hang := func(c net.Conn, _ int) { io.Copy(io.Discard, c) }
	for _, row := range []struct {
		name   string
		answer func(net.Conn, int)
		id     string
		want   error  // the typed error, nil for none
		says   string // in the error, "" for success
		took   time.Duration
	}{
		{"a message with its id", recorded(t, "assumed-200"), "1310000000000000001", nil, "", 0},
		{"204, as if wait had been dropped", raw("204 No Content", ""), "", nil, "", 0},
		{"200 that is no JSON", raw("200 OK", "<html>Sign in to the hotel</html>"), "", nil, "does not name the message", 0},
		{"200 without an id", raw("200 OK", `{"content": ""}`), "", nil, "does not name the message", 0},
		{"200 with an id that is none", raw("200 OK", `{"id": "`+canary+`"}`), "", nil, "does not name the message", 0},
		{"200 with nothing", raw("200 OK", ""), "", nil, "does not name the message", 0},
		{"200 with a body of 10 MiB", raw("200 OK", `{"id": "1", "x": "`+strings.Repeat("x", 10<<20)+`"}`), "", nil, "longer than 1 MiB", 0},
		{"200 that breaks off", func(c net.Conn, _ int) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"id\": \"1\"") }, "", nil, "the connection broke", 0},
		{"401", recorded(t, "quoted-401"), "", &GoneError{401}, "webhook is gone (401)", 0},
		{"404", recorded(t, "quoted-404"), "", &GoneError{404}, "webhook is gone (404)", 0},
		{"404 that is no JSON", raw("404 Not Found", "nothing here"), "", &GoneError{404}, "webhook is gone (404)", 0},
		{"429 by the user's limit", recorded(t, "quoted-429-user"), "", &LimitedError{64570 * time.Millisecond}, "for 1m4.57s", 0},
		{"429 by a shared limit", recorded(t, "quoted-429-shared"), "", &LimitedError{1336570 * time.Millisecond}, "for 22m16.57s", 0},
		{"429 by the global limit", recorded(t, "quoted-429-global"), "", &LimitedError{64570 * time.Millisecond}, "for 1m4.57s", 0},
		{"429 with the header alone", raw("429 Too Many Requests\r\nRetry-After: 7", "slow down"), "", &LimitedError{7 * time.Second}, "for 7s", 0},
		{"429 without a time", raw("429 Too Many Requests", ""), "", &LimitedError{}, "(429)", 0},
		{"429 with a time before now", raw("429 Too Many Requests\r\nRetry-After: -7", `{"retry_after": -1}`), "", &LimitedError{}, "(429)", 0},
		{"429 for ever", raw("429 Too Many Requests", `{"retry_after": 1e300}`), "", &LimitedError{24 * time.Hour}, "for 24h0m0s", 0},
		{"400", recorded(t, "quoted-400"), "", &RefusedError{400, 50035}, "refused the ping (400, code 50035)", 0},
		{"403", raw("403 Forbidden", canary), "", nil, "answered with 403", 0},
		{"500", raw("500 Internal Server Error", `{"message": "`+canary+`"}`), "", nil, "answered with 500", 0},
		{"a redirect", raw("301 Moved Permanently\r\nLocation: https://evil.example/"+canary, ""), "", nil, "redirect (301), which is not followed", 0},
		{"a redirect to no address", raw("302 Found\r\nLocation: ://"+canary+"%zz", ""), "", nil, "redirect (302)", 0},
		{"no HTTP", func(c net.Conn, _ int) { fmt.Fprintf(c, "SSH-2.0-%s\r\n\r\n", canary) }, "", nil, "the connection broke", 0},
		{"a header without end", func(c net.Conn, _ int) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX: ")
			for range 100 {
				fmt.Fprint(c, strings.Repeat("x", 1000))
			}
		}, "", nil, "the connection broke", 0},
		{"a connection that is killed", func(net.Conn, int) {}, "", nil, "the connection broke", 0},
		{"one that hangs", hang, "", nil, "no answer within 10s", 10 * time.Second},
		{"one that hangs within its answer", func(c net.Conn, n int) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{")
			hang(c, n)
		}, "", nil, "no answer within 10s", 10 * time.Second},
		{"a slow one", func(c net.Conn, n int) {
			time.Sleep(9 * time.Second)
			delivered(c, n)
		}, "1", nil, "", 9 * time.Second},
		{"one too slow", func(c net.Conn, n int) {
			for range 100 {
				if _, err := fmt.Fprint(c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
					return
				}
				time.Sleep(3 * time.Second)
			}
		}, "", nil, "no answer within 10s", 10 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &fakeDiscord{answer: row.answer}
				began := time.Now()
				id, err := fake.discord(t).Send(t.Context(), []byte(`{"a":1}`))
				if took := time.Since(began); took != row.took {
					t.Errorf("it took %s, want %s", took, row.took)
				}
				if id != row.id {
					t.Errorf("the id is %q, want %q", id, row.id)
				}
				if (err == nil) != (row.says == "") {
					t.Fatalf("the error is %v, want %q", err, row.says)
				}
				if err != nil && (!strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), canary)) {
					t.Errorf("the error is %q, want %q and not the secret", err, row.says)
				}
				if row.want != nil {
					got := errors.Unwrap(err)
					if !reflect.DeepEqual(got, row.want) {
						t.Errorf("the error is %#v, want %#v", got, row.want)
					}
				}
				want := []exchange{{"POST", "/api/v10/webhooks/123456789/" + canary + "?wait=true",
					"DiscordBot (https://davidcockson.com/runner, 1.2.3)", "application/json", `{"a":1}`}}
				if got := fake.exchanges(); !reflect.DeepEqual(got, want) {
					t.Errorf("Discord was asked %+v, want %+v", got, want)
				}
			})
		})
	}
}

func TestAnEndlessAnswerIsNotRead(t *testing.T) {
	written := 0
	fake := &fakeDiscord{answer: func(c net.Conn, _ int) {
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n{\"id\": \"1\", \"x\": \"")
		for written < 64<<20 {
			n, err := c.Write(make([]byte, 1<<16))
			if written += n; err != nil {
				return
			}
		}
	}}
	if _, err := fake.discord(t).Send(t.Context(), []byte("{}")); err == nil {
		t.Error("it was taken")
	}
	fake.group.Wait()
	if written > 2*mostReply {
		t.Errorf("%d bytes were read", written)
	}
}

func TestDiscordThatIsNotReached(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, row := range []struct {
		name string
		err  error
		want string
	}{
		{"refused", dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), "send a ping: cannot connect: connection refused"},
		{"no such name", dial(&net.DNSError{Name: canary, Err: "no such host", IsNotFound: true}), "send a ping: cannot connect: the server's name is not known"},
		{"no name server", dial(&net.DNSError{Name: canary, Err: "server misbehaving"}), "send a ping: cannot connect: the server's name cannot be looked up"},
		{"something else", dial(errors.New(canary)), "send a ping: cannot connect"},
	} {
		t.Run(row.name, func(t *testing.T) {
			fake := &fakeDiscord{refuse: func(int) error { return row.err }}
			_, err := fake.discord(t).Send(t.Context(), []byte("{}"))
			if err == nil || err.Error() != row.want {
				t.Errorf("%v, want %s", err, row.want)
			}
		})
	}
	t.Run("a caller that stops", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			fake := &fakeDiscord{answer: func(c net.Conn, _ int) { io.Copy(io.Discard, c) }}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			time.AfterFunc(time.Second, cancel)
			if _, err := fake.discord(t).Send(ctx, []byte("{}")); !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want that it was stopped", err)
			}
		})
	})
}

func TestTheRateLimitOfTheHeadersIsKept(t *testing.T) {
	for _, row := range []struct {
		name, headers string
		want          time.Duration
	}{
		{"no headers", "", 0},
		{"room is left", "\r\nX-RateLimit-Remaining: 1\r\nX-RateLimit-Reset-After: 2.5", 0},
		{"no room is left", "\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset-After: 2.5", 2500 * time.Millisecond},
		{"no room for a time that is none", "\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset-After: soon", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &fakeDiscord{answer: raw("200 OK"+row.headers, `{"id": "1"}`)}
				d := fake.discord(t)
				if _, err := d.Send(t.Context(), []byte("{}")); err != nil {
					t.Fatal(err)
				}
				if got := d.ready(); got != row.want {
					t.Errorf("wait %s, want %s", got, row.want)
				}
			})
		})
	}
}

func TestTheWebhooksURL(t *testing.T) {
	const pinned = "https://discord.com/api/v10/webhooks/1/" + canary + "?wait=true"
	for _, row := range []struct{ name, url, want string }{
		{"as Discord shows it", "https://discord.com/api/webhooks/1/" + canary, pinned},
		{"with a line's end", "https://discord.com/api/webhooks/1/" + canary + "\n", pinned},
		{"of an old version", "https://discord.com/api/v6/webhooks/1/" + canary, pinned},
		{"of the old name", "https://discordapp.com/api/webhooks/1/" + canary, pinned},
		{"with a thread", "https://ptb.discord.com/api/webhooks/1/" + canary + "?thread_id=7", "https://ptb.discord.com/api/v10/webhooks/1/" + canary + "?thread_id=7&wait=true"},
		{"that asks not to wait", "https://discord.com/api/webhooks/1/" + canary + "?wait=false", pinned},
		{"of another server", "https://hooks.example/" + canary, "https://hooks.example/" + canary + "?wait=true"},
		{"on this machine", "http://127.0.0.1:9/" + canary, "http://127.0.0.1:9/" + canary + "?wait=true"},
		{"empty", "", ""},
		{"no URL", canary, ""},
		{"broken", "https://discord.com/%zz" + canary, ""},
		{"without a path", "https://discord.com/", ""},
		{"in the clear", "http://discord.com/api/webhooks/1/" + canary, ""},
		{"in the clear on another server", "http://hooks.example/" + canary, ""},
		{"for Slack's format", "https://discord.com/api/webhooks/1/" + canary + "/slack", ""},
		{"of a channel", "https://discord.com/channels/1/" + canary, ""},
		{"with a user", "https://" + canary + "@hooks.example/a", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			d, err := NewDiscord(secret.New(row.url), "1")
			if err != nil {
				if row.want != "" || strings.Contains(err.Error(), canary) {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if got := d.webhook.Reveal(); got != row.want {
				t.Errorf("%s, want %s", got, row.want)
			}
			if shown := fmt.Sprintf("%v %+v %#v", d, d, d); strings.Contains(shown, canary) {
				t.Errorf("printed as %s", shown)
			}
		})
	}
}
