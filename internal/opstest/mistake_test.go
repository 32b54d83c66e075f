package opstest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAMistakeShowsNoSecret gives secrets in every wrong way: the error must not
// repeat them.
func TestAMistakeShowsNoSecret(t *testing.T) {
	key := canaries["the OpenAI key by variable"]
	hook := canaries["the webhook's id"] + "/" + canaries["the webhook's token"]
	path := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(path, []byte(key+"\nsecond line "+key+"\n\x01"), 0o600); err != nil {
		t.Fatal(err)
	}
	provider := func(fields string) string {
		return "providers: [{name: a, kind: openai, url: 'http://127.0.0.1:1', " + fields + "}]\n"
	}
	tests := []struct {
		name, config string
		env          []string
	}{
		{"a key in the config", provider("api_key: " + key), nil},
		{"a key where the variable's name belongs", provider("api_key_env: " + key), nil},
		{"a key where the file's path belongs", provider("api_key_file: " + key), nil},
		{"a key of two lines", provider("api_key_file: '" + path + "'"), nil},
		{"a key of two lines in a variable", provider("api_key_env: KEY"), []string{"KEY=" + key + "\n" + key}},
		{"a user in a URL", "providers: [{name: a, kind: openai, url: 'http://u:" + key + "@127.0.0.1:1'}]\n", nil},
		{"a query in a URL", "providers: [{name: a, kind: openai, url: 'http://127.0.0.1:1/?key=" + key + "'}]\n", nil},
		{"a URL that does not parse", "providers: [{name: a, kind: openai, url: 'http://u:" + key + "@127.0.0.1:port'}]\n", nil},
		{"a webhook in the config", echo + "discord: {webhook: 'https://discord.com/api/webhooks/" + hook + "'}\n", nil},
		{"a webhook as a text", echo + "discord: 'https://discord.com/api/webhooks/" + hook + "'\n", nil},
		{"a webhook without https", echo + "discord: {webhook_env: HOOK}\n", []string{"HOOK=http://discord.com/api/webhooks/" + hook}},
		{"a webhook that is no URL", echo + "discord: {webhook_env: HOOK}\n", []string{"HOOK=https://discord.com:port/api/webhooks/" + hook}},
		{"a webhook of a strange path", echo + "discord: {webhook_env: HOOK}\n", []string{"HOOK=https://discord.com/" + hook}},
		{"a webhook that is a path", echo + "discord: {webhook_env: HOOK}\n", []string{"HOOK=/" + hook}},
		{"a user in Langfuse's host", echo + "langfuse: {host: 'https://u:" + key + "@127.0.0.1:1', public_key: pk, secret_key_env: KEY}\n", []string{"KEY=" + key}},
		{"a secret without a public key", echo + "langfuse: {host: 'https://127.0.0.1:1', secret_key_env: KEY}\n", []string{"KEY=" + key}},
		{"a secret in a service's URL", echo + "services: {qdrant: 'http://u:" + key + "@127.0.0.1:1'}\n", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, test.config, test.env...)
			for _, args := range [][]string{{"check"}, {"worker"}, {"list"}} {
				out := w.run(args...)
				if out == "" {
					t.Errorf("%s says nothing", args)
				}
				for what, canary := range canaries {
					if strings.Contains(out, canary) {
						t.Errorf("%s shows %s: %s", args, what, out)
					}
				}
			}
		})
	}
}
