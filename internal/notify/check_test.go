package notify

import (
	"errors"
	"net"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
)

func TestALookAtTheWebhookSendsNothing(t *testing.T) {
	for _, row := range []struct {
		name   string
		answer func(net.Conn, int)
		says   string // "" for a webhook that is there
		gone   bool
	}{
		{"a webhook that is there", raw("200 OK", `{"id": "123456789", "name": "runner"}`), "", false},
		{"one that was removed", recorded(t, "quoted-404"), "webhook is gone (404)", true},
		{"something else", raw("200 OK", "<html>"+canary), "it is not Discord's", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeDiscord{answer: row.answer}
				err := f.discord(t).Check(t.Context())
				var gone *GoneError
				if (err == nil) != (row.says == "") || errors.As(err, &gone) != row.gone {
					t.Fatalf("got %v", err)
				}
				if err != nil && (!strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), canary)) {
					t.Errorf("it says %q", err)
				}
				got := f.exchanges()
				if len(got) != 1 || !reflect.DeepEqual(got[0], exchange{method: "GET", target: got[0].target, agent: got[0].agent}) {
					t.Errorf("asked %+v", got)
				}
			})
		})
	}
}
