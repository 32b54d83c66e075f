package provider

import (
	"strings"
	"testing"
)

func TestEveryKindSaysWhatToDo(t *testing.T) {
	kinds := []Kind{Unreachable, Busy, Gateway, Auth, NoModel, Refused, TooLong, Failed, Timeout, Cut, Empty, Unfinished, Unread, Blocked, Malformed, Cancelled}
	general := Kind("a kind that nobody knows").Advice()
	if general == "" {
		t.Error("no advice about the unknown")
	}
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			e := &Error{Kind: k}
			if got := e.Advise(); got == "" || got == general {
				t.Errorf("it advises %q", got)
			}
			e.Advice = "what it knows better"
			if got := e.Advise(); got != e.Advice {
				t.Errorf("it advises %q", got)
			}
		})
	}
}

func TestAdviceAboutARefusalFitsChatAndJobs(t *testing.T) {
	if got := Refused.Advice(); strings.Contains(got, "note") || !strings.Contains(got, "the prompt, the model or a setting") {
		t.Errorf("it advises %q", got)
	}
}

func TestAnErrorBlamesNobodyWithoutAName(t *testing.T) {
	for _, test := range []struct {
		e    Error
		want string
	}{
		{Error{Reason: "so"}, "so"},
		{Error{Provider: "p", Reason: "so"}, "p: so"},
		{Error{Provider: "p", Model: "m", Reason: "so"}, "p (m): so"},
	} {
		if got := test.e.Error(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
