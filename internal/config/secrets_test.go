package config

import (
	"strings"
	"testing"
)

func TestWhatAWebhookMustLookLike(t *testing.T) {
	for _, test := range []struct {
		name, url, want string // want is "" for a URL that is taken
	}{
		{"one of Discord's", "https://discord.com/api/webhooks/12/t-o_k", ""},
		{"one of a version, into a thread", "https://discord.com/api/v10/webhooks/12/tok?thread_id=3", ""},
		{"one of another server", "https://chat.example/hooks/canary", ""},
		{"one on this machine", "http://127.0.0.1:81/api/webhooks/1/t", ""},
		{"a word", "canary", "must hold a webhook's whole URL"},
		{"a host alone", "https://discord.com/", "must hold a webhook's whole URL"},
		{"a URL with a password", "https://u:canary@h/x", "must hold a webhook's whole URL"},
		{"a URL that others can read on the way", "http://discord.com/api/webhooks/12/canary", "must hold a URL that begins with https://"},
		{"half of Discord's", "https://discord.com/api/webhooks/12", "must hold a URL whose path is that of a webhook"},
		{"another of Discord's pages", "https://discord.com/channels/12/34", "must hold a URL whose path is that of a webhook"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, head+tail+"discord:\n  webhook_env: HOOK\n")
			_, _, err := Load(path, []string{"HOOK=" + test.url})
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if want := path + ":5: discord.webhook_env: " + test.want; err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%v, want %s…", err, want)
			}
		})
	}
}

func TestLoadWithoutSecrets(t *testing.T) {
	const file = head + `discord: {webhook_env: HOOK}
langfuse: {host: https://l, public_key: pk, secret_key_file: nowhere}
providers:
  - {name: g, kind: gemini, api_key_env: RUNNER_GEMINI, models: [{name: m}]}
  - {name: o, kind: openai, url: http://a, api_key_file: nowhere}
`
	path := write(t, file)
	if _, _, err := Load(path, nil); err == nil {
		t.Error("a Load takes missing secrets")
	}
	c, warnings, err := LoadWithoutSecrets(path, []string{"RUNNER_GEMINI=k", "RUNNER_DISCORD_WEBHOOK=no URL"})
	if err != nil || len(warnings) > 0 {
		t.Fatalf("warnings %v, error %v", warnings, err)
	}
	if !c.Discord.Webhook.IsZero() || !c.Langfuse.SecretKey.IsZero() || !c.Providers[0].Key.IsZero() || !c.Providers[1].Key.IsZero() {
		t.Error("a secret was read")
	}
	if len(c.Providers) != 2 || c.Providers[0].Models[0].Name != "m" {
		t.Errorf("got %+v", c)
	}
	for name, wrong := range map[string]string{
		"a Gemini without the name of a key":    head + "providers:\n  - {name: g, kind: gemini}\n",
		"Langfuse without the name of a secret": head + tail + "langfuse: {host: https://l, public_key: pk}\n",
		"a key where its variable's name goes":  head + tail + "discord: {webhook_env: 'https://h/x'}\n",
		"a secret written into the file":        head + tail + "discord: {webhook: x}\n",
	} {
		if _, _, err := LoadWithoutSecrets(write(t, wrong), nil); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
