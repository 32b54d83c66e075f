package wire

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// tripper answers every request in the same way.
type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func respond(status int, body io.Reader) tripper {
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{"Location": {"http://elsewhere.example/"}}, Body: io.NopCloser(body)}, nil
	}
}

func post(t *testing.T, call *Call) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(call.Context(), http.MethodPost, "http://x.example/", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

var hour = &Deadline{Length: time.Hour, What: "nothing within %s", Key: "x"}

func TestACallIsOneRequest(t *testing.T) {
	seen := 0
	client, transport := NewClient(time.Second, func(h http.Header) { h.Set("Authorization", "Bearer "+canary) })
	transport.Next = tripper(func(req *http.Request) (*http.Response, error) {
		seen++
		if req.Header.Get("Authorization") != "Bearer "+canary {
			t.Errorf("sent with %v", req.Header)
		}
		return nil, errors.New("cut")
	})
	call := NewReply(t.Context(), hour)
	defer call.Stop()
	for range 3 { // as a client would that repeats what failed
		req := post(t, call)
		if _, err := client.Do(req); err == nil {
			t.Error("want a failure")
		}
		if req.Header.Get("Authorization") != "" {
			t.Error("the client above sees the key")
		}
	}
	if seen != 1 {
		t.Errorf("%d requests were sent", seen)
	}
}

func TestARequestWithoutACallIsNotSent(t *testing.T) {
	client, transport := NewClient(time.Second, func(http.Header) {})
	transport.Next = respond(200, strings.NewReader(""))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x.example/", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Do(req); err == nil {
		t.Error("want a failure")
	}
}

func TestWhatIsNo200IsARefusalOfWhich64KiBAreRead(t *testing.T) {
	for _, status := range []int{201, 204, 302, 307, 400, 500} {
		client, transport := NewClient(time.Second, func(http.Header) {})
		transport.Next = respond(status, strings.NewReader(strings.Repeat("a", 1<<20)))
		call := NewStream(t.Context(), hour, hour, func(http.Header) { t.Error("taken for an answer") })
		_, err := client.Do(post(t, call))
		r := call.Refusal()
		if err == nil || r == nil || r.Status != status || len(r.Body) != 64<<10 || call.Header() != nil || call.Fault(0, "") != nil {
			t.Errorf("%d: %v, %+v", status, err, r)
		}
		call.Stop()
	}
}

func TestTheTransportAsksNoProxy(t *testing.T) {
	_, transport := NewClient(time.Second, func(http.Header) {})
	if next, ok := transport.Next.(*http.Transport); !ok || next.Proxy != nil || !next.DisableKeepAlives || !next.DisableCompression {
		t.Errorf("the transport is %+v", transport.Next)
	}
}
