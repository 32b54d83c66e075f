// Package kuma makes an Uptime Kuma have what a declaration says.
//
// Promise: after [Sync] the server has the declared admin, notification and
// monitors, whether it was empty, had them, or had been changed by hand; a second
// run finds nothing to do. Monitors are matched by name. What the declaration does
// not name stays as it is: other keys of a monitor, its history, other monitors.
//
// Removed is only what carries our tag, which a monitor gets when we make it, and
// is no longer declared. So a monitor that somebody made by hand is never deleted,
// not even after it was declared for a while.
//
// Failure modes: a name that two monitors carry is refused before anything is
// changed; a refused login is tried once (the server allows 20 a minute); an error
// in the middle leaves what was done, and the next run does the rest. An end between
// a new monitor and its tag leaves it without: it is kept as one made by hand.
//
// Kuma has no API for monitors but the Socket.IO events of its own page, which may
// change with a version. Those used here were recorded from the version that
// testdata names.
package kuma

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
)

// Tag is the name of the tag that marks what we made.
const Tag = "kuma-sync"

// ErrLogin says that the server does not take the admin's name and password.
var ErrLogin = errors.New("the server knows another password for the admin: set it there, in its settings, to the declared one")

// Sync makes the server at base have what d says and returns what it changed, as
// one line each; also those before an error. base is an http or https URL.
func Sync(ctx context.Context, base string, d *Declaration) (changes []string, err error) {
	s, err := dial(ctx, base)
	if err != nil {
		return nil, err
	}
	defer s.close()
	y := &syncer{server: server{s}, declared: d}
	for _, step := range []func(context.Context) error{y.admin, y.look, y.notification, y.monitors, y.obsolete} {
		if err := step(ctx); err != nil {
			return y.changes, err
		}
	}
	return y.changes, nil
}

type syncer struct {
	server   server
	declared *Declaration
	existing map[string]monitor // by name
	tagID    int                // 0: not made yet
	notify   int                // the notification's id, 0 for none
	changes  []string
}

func (y *syncer) changed(format string, args ...any) {
	y.changes = append(y.changes, fmt.Sprintf(format, args...))
}

// admin makes the first user of an empty server, and logs in.
func (y *syncer) admin(ctx context.Context) error {
	admin := y.declared.Admin
	empty, err := y.server.needSetup(ctx)
	if err != nil {
		return err
	}
	if empty {
		if err := y.server.setup(ctx, admin.Name, admin.Password); err != nil {
			return fmt.Errorf("make the admin %s: %w", admin.Name, err)
		}
		y.changed("made the admin %s", admin.Name)
	}
	return y.server.login(ctx, admin.Name, admin.Password)
}

// look reads what is there, and refuses what would not be clear.
func (y *syncer) look(ctx context.Context) error {
	all, err := y.server.monitors(ctx)
	if err != nil {
		return err
	}
	declared := map[string]bool{}
	for _, m := range y.declared.Monitors {
		declared[m.Name] = true
	}
	y.existing = map[string]monitor{}
	for _, m := range all {
		if _, twice := y.existing[m.name()]; twice && declared[m.name()] {
			return fmt.Errorf("the server has two monitors called %s: delete or rename one of them there", m.name())
		}
		y.existing[m.name()] = m
	}
	tags, err := y.server.tags(ctx)
	if err != nil {
		return err
	}
	y.tagID = tags[Tag]
	return nil
}

func (y *syncer) notification(ctx context.Context) error {
	d := y.declared.Discord
	if d == nil {
		return nil
	}
	known, err := y.server.notifications()
	if err != nil {
		return err
	}
	old, there := known[d.Name]
	if there && old.Type == "discord" && old.Webhook == d.Webhook {
		y.notify = old.ID
		return nil
	}
	if y.notify, err = y.server.saveNotification(ctx, old.ID, d.Name, d.Webhook); err != nil {
		return fmt.Errorf("set the notification %s: %w", d.Name, err)
	}
	y.changed("set the notification %s", d.Name)
	return nil
}

func (y *syncer) monitors(ctx context.Context) error {
	for _, m := range y.declared.Monitors {
		wanted := m.wanted(y.notify)
		old, there := y.existing[m.Name]
		if there {
			if err := y.update(ctx, old, wanted); err != nil {
				return fmt.Errorf("change the monitor %s: %w", m.Name, err)
			}
			continue
		}
		if err := y.make(ctx, wanted); err != nil {
			return fmt.Errorf("make the monitor %s: %w", m.Name, err)
		}
		y.changed("made the monitor %s", m.Name)
	}
	return nil
}

func (y *syncer) make(ctx context.Context, wanted monitor) (err error) {
	if y.tagID == 0 {
		if y.tagID, err = y.server.addTag(ctx, Tag); err != nil {
			return err
		}
	}
	id, err := y.server.add(ctx, wanted)
	if err != nil {
		return err
	}
	if err := y.server.tagMonitor(ctx, y.tagID, id); err != nil {
		// Without our tag it would pass for one made by hand for ever. So it goes again,
		// and the next run makes it whole.
		return errors.Join(err, y.server.remove(ctx, id))
	}
	return nil
}

// update sends the whole monitor as the server has it, with the declared keys on
// top, if any of them differs.
func (y *syncer) update(ctx context.Context, old, wanted monitor) error {
	if len(differing(old, wanted)) == 0 {
		return nil
	}
	merged := maps.Clone(old)
	maps.Copy(merged, wanted)
	notifications := map[string]any{}
	for _, from := range []monitor{old, wanted} {
		for id, on := range from.object("notificationIDList") {
			notifications[id] = on
		}
	}
	merged["notificationIDList"] = notifications
	if err := y.server.edit(ctx, merged); err != nil {
		return err
	}
	y.changed("changed the monitor %s: %v", wanted.name(), differing(old, wanted))
	return nil
}

// differing are the declared keys that the server has otherwise.
func differing(old, wanted monitor) (keys []string) {
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		switch {
		case slices.Contains(writeOnly, key):
		case key == "notificationIDList": // others may be switched on by hand
			have := old.object(key)
			for id := range wanted.object(key) {
				if have[id] != true {
					keys = append(keys, key)
				}
			}
		case !reflect.DeepEqual(old[key], wanted[key]):
			keys = append(keys, key)
		}
	}
	return keys
}

// obsolete deletes what we made and is not declared any more.
func (y *syncer) obsolete(ctx context.Context) error {
	declared := map[string]bool{}
	for _, m := range y.declared.Monitors {
		declared[m.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(y.existing)) {
		m := y.existing[name]
		if declared[name] || !m.tagged(Tag) {
			continue
		}
		if err := y.server.remove(ctx, m.id()); err != nil {
			return fmt.Errorf("delete the monitor %s: %w", name, err)
		}
		y.changed("deleted the monitor %s", name)
	}
	return nil
}

// writeOnly are the keys that an added monitor must have and that we do not
// compare: empty ones of features that are not used.
var writeOnly = []string{"conditions", "kafkaProducerBrokers", "kafkaProducerSaslOptions", "rabbitmqNodes"}

// wanted is the monitor as Kuma's page would send it, as JSON has it. It says nothing
// of whether the monitor is paused: that is done by hand, and stays.
func (m Monitor) wanted(notification int) monitor {
	interval := m.Interval
	if interval == 0 {
		interval = 60
	}
	retries := m.MaxRetries
	// What is pushed as down is down at once: Kuma would call it pending for as many pushes
	// as there are retries, and tell nobody.
	if retries == 0 && m.Type != "push" {
		retries = 3
	}
	codes := m.StatusCodes
	if len(codes) == 0 {
		codes = []string{"200-299"}
	}
	object := map[string]any{
		"name": m.Name, "type": m.Type,
		"interval": interval, "retryInterval": interval, "resendInterval": 0,
		"maxretries": retries, "timeout": interval * 4 / 5,
		"method": "GET", "maxredirects": 10, "accepted_statuscodes": codes,
		"expiryNotification": m.CertificateExpiry, "ignoreTls": m.IgnoreTLS,
		"notificationIDList": map[string]any{},
		"conditions":         []any{}, "kafkaProducerBrokers": []any{}, "rabbitmqNodes": []any{},
		"kafkaProducerSaslOptions": map[string]any{"mechanism": "None"},
	}
	if notification != 0 {
		object["notificationIDList"] = map[string]any{strconv.Itoa(notification): true}
	}
	for key, value := range map[string]string{
		"url": m.URL, "hostname": m.Hostname, "keyword": m.Keyword, "databaseConnectionString": m.ConnectionString,
		"pushToken": m.PushToken,
	} {
		if value != "" {
			object[key] = value
		}
	}
	if m.Port != 0 {
		object["port"] = m.Port
	}
	return decoded(object)
}

// decoded is an object as it looks after a way through JSON, so that it can be
// compared with one that came that way.
func decoded(object map[string]any) monitor {
	text, err := json.Marshal(object)
	if err != nil {
		panic(err) // numbers, texts, lists and objects alone
	}
	var m monitor
	if err := json.Unmarshal(text, &m); err != nil {
		panic(err)
	}
	return m
}
