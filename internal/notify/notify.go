// Package notify tells the owner by Discord how jobs end and what needs a hand.
//
// It promises that nothing waits for Discord: a ping is a row of the ledger,
// written with what it tells of, and the Outbox delivers the rows in their order,
// over restarts, until Discord has confirmed each or it is given up, logged and
// counted. Delivery is at least once: a process that dies between Discord's
// answer and the row that notes it sends that ping again, since a webhook has no
// key by which Discord would know the second.
//
// The path of a webhook's URL is a secret and reaches no error, log or row. What a
// note or a model wrote cannot mention anybody, link, format, or exceed Discord's
// limits. A webhook that is gone stops the sending until a restart.
package notify

import (
	"net/url"
	"strings"
)

// ObsidianLink is the URI that opens a note in Obsidian: vault is the vault's name
// on the owner's devices, path the note's path in it. Both are percent-encoded, a
// space as %20 and a slash as %2F, as Obsidian's help on its URIs asks.
func ObsidianLink(vault, path string) string {
	return "obsidian://open?vault=" + percent(vault) + "&file=" + percent(path)
}

// percent is QueryEscape without its one difference from percent-encoding.
func percent(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
