package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"davidcockson.com/runner/internal/provider"
)

// columns of messages, as scan reads and insert writes them.
const columns = `id, conversation, turn, version, role, state, created, ended, provider, model, trace, reason, advice, answer, text, thinking`

type scanner interface{ Scan(...any) error }

func scan(s scanner) (Message, error) {
	var m Message
	var created, ended int64
	var answer string
	err := s.Scan(&m.ID, &m.Conversation, &m.Turn, &m.Version, &m.Role, &m.State, &created, &ended,
		&m.Provider, &m.Model, &m.Trace, &m.Reason, &m.Advice, &answer, &m.Text, &m.Thinking)
	if err != nil {
		return m, err
	}
	m.Created, m.Ended = moment(created), moment(ended)
	if answer != "" {
		if err := json.Unmarshal([]byte(answer), &m.Answer); err != nil {
			return m, fmt.Errorf("message %d: %w", m.ID, err)
		}
	}
	return m, nil
}

// insert adds a message, with its id and as it is kept, and brings the list of
// conversations up to date with it.
func insert(ctx context.Context, tx *sql.Tx, m Message) (Message, error) {
	m.Text, m.Thinking, m.Reason, m.Advice = clean(m.Text), clean(m.Thinking), clean(m.Reason), clean(m.Advice)
	m.Created, m.Ended = moment(millis(m.Created)), moment(millis(m.Ended))
	m.Answer.Text, m.Answer.Thinking = "", ""
	answer := ""
	if m.Answer != (provider.Answer{}) {
		data, err := json.Marshal(m.Answer)
		if err != nil {
			return m, err
		}
		answer = string(data)
	}
	result, err := tx.ExecContext(ctx, "INSERT INTO messages ("+columns+") VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		m.Conversation, m.Turn, m.Version, m.Role, m.State, millis(m.Created), millis(m.Ended),
		m.Provider, m.Model, m.Trace, m.Reason, m.Advice, answer, m.Text, m.Thinking)
	if err != nil {
		return m, err
	}
	if m.ID, err = result.LastInsertId(); err != nil {
		return m, err
	}
	_, err = tx.ExecContext(ctx, foldOne, m.ID)
	return m, err
}

// meta is the text of a row of role meta. The newest row of a conversation says
// all of what is set for it, and whether it is deleted.
type meta struct {
	Title       string   `json:"title,omitempty"`
	System      string   `json:"system,omitempty"`
	Temperature *float64 `json:"temperature,omitempty"`
	Provider    string   `json:"provider,omitempty"`
	Model       string   `json:"model,omitempty"`
	Deleted     bool     `json:"deleted,omitempty"`
	// Purged says that nothing else is left of the conversation.
	Purged bool `json:"purged,omitempty"`
}

func metaOf(s Settings) meta {
	return meta{Title: s.Title, System: s.System, Temperature: s.Temperature, Provider: s.Provider, Model: s.Model}
}

func (m meta) settings() Settings {
	return Settings{Title: m.Title, System: m.System, Temperature: m.Temperature, Provider: m.Provider, Model: m.Model}
}

// message is the row of what is set; created is in milliseconds.
func (m meta) message(conversation string, created int64) (Message, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return Message{}, err
	}
	return Message{Conversation: conversation, Role: Meta, Text: string(data), Created: moment(created)}, nil
}

// kept is a conversation as the list has it.
type kept struct {
	Conversation
	meta    meta
	deleted int64 // when, in milliseconds; 0 for not
}

const keptColumns = `SELECT c.id, c.created, c.updated, c.turns, c.deleted, m.text FROM conversations c JOIN messages m ON m.id = c.meta `

func scanKept(s scanner) (kept, error) {
	var k kept
	var created, updated int64
	var text string
	if err := s.Scan(&k.ID, &created, &updated, &k.Turns, &k.deleted, &text); err != nil {
		return k, err
	}
	if err := json.Unmarshal([]byte(text), &k.meta); err != nil {
		return k, fmt.Errorf("settings of %s: %w", k.ID, err)
	}
	k.Settings, k.Created, k.Updated = k.meta.settings(), moment(created), moment(updated)
	return k, nil
}
