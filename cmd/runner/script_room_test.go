package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

var (
	roomAddress = regexp.MustCompile(`the control room is served.* address=(\S+)`)
	roomToken   = regexp.MustCompile(`The control room: \S+[?]token=(\S+)`)
)

// roomAnswer asks the control room that writes to the file log.
func roomAnswer(ts *testscript.TestScript, log, method, path, body string) (status int, answer string) {
	text := ts.ReadFile(log)
	address := roomAddress.FindStringSubmatch(text)
	if address == nil {
		ts.Fatalf("%s has no address of a control room:\n%s", log, text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address[1]+path, strings.NewReader(body))
	ts.Check(err)
	if link := roomToken.FindStringSubmatch(text); link != nil {
		req.Header.Set("Authorization", "Bearer "+link[1])
	} else if token, err := os.ReadFile(ts.MkAbs("token")); err == nil {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	ts.Check(err)
	return resp.StatusCode, string(data)
}

func askRoom(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, !neg && (len(args) == 4 || len(args) == 5), "room LOG STATUS METHOD PATH [BODY]")
	status, answer := roomAnswer(ts, args[0], args[2], args[3], strings.Join(args[4:], ""))
	if strconv.Itoa(status) != args[1] {
		ts.Fatalf("%s %s is answered with %d, want %s:\n%s", args[2], args[3], status, args[1], answer)
	}
	_, err := io.WriteString(ts.Stdout(), answer)
	ts.Check(err)
}

func awaitRoom(ts *testscript.TestScript, neg bool, args []string) {
	usageOf(ts, !neg && len(args) == 3, "await-room LOG PATH TEXT")
	want := regexp.MustCompile(args[2])
	await(ts, strings.Join(args, " "), func() (string, bool) {
		status, answer := roomAnswer(ts, args[0], http.MethodGet, args[1], "")
		if status != http.StatusOK || !want.MatchString(answer) {
			return fmt.Sprintf("%d: %s", status, answer), false
		}
		_, err := io.WriteString(ts.Stdout(), answer)
		ts.Check(err)
		return "", true
	})
}
