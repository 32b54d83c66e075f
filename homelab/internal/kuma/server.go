package kuma

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// server is the part of Kuma's own events that we need.
type server struct{ socket *socket }

// answer is what Kuma acknowledges with. Msg may be a key of its translations.
type answer struct {
	OK            bool   `json:"ok"`
	Msg           string `json:"msg"`
	TokenRequired bool   `json:"tokenRequired"`
	MonitorID     int    `json:"monitorID"`
	ID            int    `json:"id"`
	Tag           tag    `json:"tag"`
	Tags          []tag  `json:"tags"`
}

type tag struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
}

// monitor is one as the server has it, with all its keys, known to us or not.
type monitor map[string]any

func (m monitor) name() string { name, _ := m["name"].(string); return name }

func (m monitor) id() int { id, _ := m["id"].(float64); return int(id) }

func (m monitor) object(key string) map[string]any {
	object, _ := m[key].(map[string]any)
	return object
}

func (m monitor) tagged(name string) bool {
	tags, _ := m["tags"].([]any)
	for _, t := range tags {
		if object, ok := t.(map[string]any); ok && object["name"] == name {
			return true
		}
	}
	return false
}

// ask emits an event and refuses an answer that is not ok.
func (s server) ask(ctx context.Context, event string, args ...any) (answer, error) {
	var a answer
	raw, err := s.socket.emit(ctx, event, args...)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, fmt.Errorf("%s: the answer: %w", event, err)
	}
	if !a.OK && !a.TokenRequired {
		return a, fmt.Errorf("%s: the server says %q", event, a.Msg)
	}
	return a, nil
}

// needSetup tells whether there is no user yet. It is the first event of a session:
// the server drops what comes before it has said whether it wants a login.
func (s server) needSetup(ctx context.Context) (bool, error) {
	if err := s.socket.await(ctx, "loginRequired", "autoLogin"); err != nil {
		return false, err
	}
	raw, err := s.socket.emit(ctx, "needSetup")
	if err != nil {
		return false, err
	}
	var need bool
	if err := json.Unmarshal(raw, &need); err != nil {
		return false, fmt.Errorf("needSetup: %w", err)
	}
	return need, nil
}

func (s server) setup(ctx context.Context, name, password string) error {
	_, err := s.ask(ctx, "setup", name, password)
	return err
}

func (s server) login(ctx context.Context, name, password string) error {
	a, err := s.ask(ctx, "login", map[string]string{"username": name, "password": password, "token": ""})
	switch {
	case a.TokenRequired:
		return fmt.Errorf("log in as %s: the server wants a second factor, which a program has not", name)
	case a.Msg == "authIncorrectCreds":
		return fmt.Errorf("log in as %s: %w", name, ErrLogin)
	case err != nil:
		return fmt.Errorf("log in as %s: %w", name, err)
	}
	return nil
}

// monitors lists them all. The server pushes the list before it acknowledges.
func (s server) monitors(ctx context.Context) ([]monitor, error) {
	delete(s.socket.pushed, "monitorList")
	if _, err := s.ask(ctx, "getMonitorList"); err != nil {
		return nil, err
	}
	pushed := s.socket.pushed["monitorList"]
	if len(pushed) == 0 {
		return nil, errors.New("getMonitorList: the list did not come")
	}
	var byID map[string]monitor
	if err := json.Unmarshal(pushed[0], &byID); err != nil {
		return nil, fmt.Errorf("read the list of monitors: %w", err)
	}
	list := make([]monitor, 0, len(byID))
	for _, m := range byID {
		list = append(list, m)
	}
	return list, nil
}

func (s server) add(ctx context.Context, m monitor) (id int, err error) {
	a, err := s.ask(ctx, "add", m)
	return a.MonitorID, err
}

func (s server) edit(ctx context.Context, m monitor) error {
	_, err := s.ask(ctx, "editMonitor", m)
	return err
}

// remove deletes a monitor; if it is a group, its children stay.
func (s server) remove(ctx context.Context, id int) error {
	_, err := s.ask(ctx, "deleteMonitor", id, false)
	return err
}

// tags are the ids of all tags by their names.
func (s server) tags(ctx context.Context) (map[string]int, error) {
	a, err := s.ask(ctx, "getTags")
	ids := map[string]int{}
	for _, t := range a.Tags {
		ids[t.Name] = t.ID
	}
	return ids, err
}

func (s server) addTag(ctx context.Context, name string) (id int, err error) {
	a, err := s.ask(ctx, "addTag", map[string]any{"name": name, "color": "#4B5563", "new": true})
	return a.Tag.ID, err
}

func (s server) tagMonitor(ctx context.Context, tagID, monitorID int) error {
	_, err := s.ask(ctx, "addMonitorTag", tagID, monitorID, "")
	return err
}

type notification struct {
	ID      int
	Type    string
	Webhook string
}

// notifications are those that the server pushed at the login, by name.
func (s server) notifications() (map[string]notification, error) {
	pushed := s.socket.pushed["notificationList"]
	if len(pushed) == 0 {
		return nil, errors.New("the list of notifications did not come with the login")
	}
	var list []struct {
		ID     int    `json:"id"`
		Name   string `json:"name"`
		Config string `json:"config"` // JSON again
	}
	if err := json.Unmarshal(pushed[0], &list); err != nil {
		return nil, fmt.Errorf("read the list of notifications: %w", err)
	}
	byName := map[string]notification{}
	for _, n := range list {
		var config struct {
			Type    string `json:"type"`
			Webhook string `json:"discordWebhookUrl"`
		}
		if err := json.Unmarshal([]byte(n.Config), &config); err != nil {
			return nil, fmt.Errorf("read the notification %s: %w", n.Name, err)
		}
		byName[n.Name] = notification{ID: n.ID, Type: config.Type, Webhook: config.Webhook}
	}
	return byName, nil
}

// saveNotification makes a notification, or changes the one with this id if it is
// not 0.
func (s server) saveNotification(ctx context.Context, id int, name, webhook string) (int, error) {
	var old any
	if id != 0 {
		old = id
	}
	a, err := s.ask(ctx, "addNotification", map[string]any{
		"name": name, "type": "discord", "isDefault": false, "applyExisting": false,
		"discordWebhookUrl": webhook, "discordChannelType": "channel",
	}, old)
	return a.ID, err
}
