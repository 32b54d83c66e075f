package checks

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"davidcockson.com/runner/homelab/internal/peer"
)

// proxy is a running nginx with the tree's configuration. Everything that it leads to is
// one backend, but for what away names, which the resolver does not know.
type proxy struct {
	http, https, door string // the addresses of its ports 80, 443 and 9180
	client            *http.Client
}

// away is a container that is not there.
const away = "uptime-kuma"

// start renders the templates as the image does, and runs nginx.
func start(t *testing.T, backend string) *proxy {
	t.Helper()
	program := peer.Need(t, "nginx")
	dir := t.TempDir()
	p := &proxy{http: freeAddress(t), https: freeAddress(t), door: freeAddress(t)}
	certificate(t, dir)
	_, backendPort, err := net.SplitHostPort(backend)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "nginx.conf")
	config := p.render(t, dir, backendPort, knowsHTTP2(t, program))
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, taken := takes(t, path); !taken {
		t.Fatalf("nginx -t: %s", out)
	}
	run(t, exec.Command(program, "-p", dir, "-c", path, "-e", "stderr"), p.https)
	dialer := &net.Dialer{}
	p.client = &http.Client{
		Timeout:       30 * time.Second, // only a broken proxy is waited for
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // its certificate is made here
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if strings.HasSuffix(address, ":443") {
					return dialer.DialContext(ctx, network, p.https)
				}
				return dialer.DialContext(ctx, network, p.http)
			},
		},
	}
	return p
}

// takes reports whether nginx takes a configuration, and what it says of it.
func takes(t *testing.T, path string) (said string, taken bool) {
	t.Helper()
	return judge(t, filepath.Dir(path), "nginx", "-t", "-p", filepath.Dir(path), "-c", path, "-e", "stderr")
}

// render fills in the templates as the image does, for ports of the loopback and files
// of dir: all in one configuration.
func (p *proxy) render(t *testing.T, dir, backendPort string, http2 bool) string {
	t.Helper()
	values := map[string]string{"HOME_DOMAIN": "home.example", "LAN_IP": "127.0.0.1", "DEV_TAILSCALE_IP": "127.0.0.1", "CONTABO_TAILSCALE_IP": "127.0.0.1"}
	tree, err := load(home)
	if err != nil {
		t.Fatal(err)
	}
	filter := regexp.MustCompile(*tree.stacks["prod-services"].Services["nginx"].Environment["NGINX_ENVSUBST_FILTER"])
	ports := regexp.MustCompile(`(http://[a-z0-9.-]+):\d+`)
	listen := regexp.MustCompile(`listen (80|443|9180)\b`)
	addresses := map[string]string{"listen 80": p.http, "listen 443": p.https, "listen 9180": p.door}
	var config strings.Builder
	fmt.Fprintf(&config, "pid %[1]s/pid; error_log stderr; daemon off; master_process off;\nevents {}\nhttp {\naccess_log off;\n", dir)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&config, "%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	for name, text := range tree.templates() {
		if strings.HasPrefix(name, "http2.") && !http2 {
			continue
		}
		for variable, value := range values {
			if filter.MatchString(variable) {
				text = strings.ReplaceAll(text, "${"+variable+"}", value)
			}
		}
		text = ports.ReplaceAllString(text, "${1}:"+backendPort)
		text = listen.ReplaceAllStringFunc(text, func(old string) string { return "listen " + addresses[old] })
		text = strings.NewReplacer("/etc/nginx/snippets/", abs(t, "../prod-services/nginx/snippets")+"/", "/etc/nginx/tls/", dir+"/",
			"resolver 127.0.0.11", "resolver "+resolver(t)).Replace(text)
		config.WriteString(text)
	}
	return config.String() + "}\n"
}

// run starts a program, waits until it listens, and ends it with the test.
func run(t *testing.T, command *exec.Cmd, address string) {
	t.Helper()
	var said strings.Builder
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
	})
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("it ended: %v: %s", err, said.String())
		case <-deadline:
			t.Fatal("it does not listen")
		case <-tick.C:
			if conn, err := net.Dial("tcp", address); err == nil {
				conn.Close()
				return
			}
		}
	}
}

func knowsHTTP2(t *testing.T, program string) bool {
	t.Helper()
	out, err := exec.Command(program, "-v").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	var major, minor, patch int
	if _, err := fmt.Sscanf(string(out), "nginx version: nginx/%d.%d.%d", &major, &minor, &patch); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return major > 1 || minor > 25 || minor == 25 && patch >= 1
}

func abs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// freeAddress returns one of the loopback on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// certificate makes cert.pem and key.pem in dir.
func certificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "home.example"}, NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"*.home.example"}}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: signed}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// resolver answers each name with 127.0.0.1, but for the one that is away.
func resolver(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var message dnsmessage.Message
			if message.Unpack(buffer[:n]) != nil || len(message.Questions) != 1 {
				continue
			}
			message.Header.Response = true
			question := message.Questions[0]
			if strings.HasPrefix(question.Name.String(), away+".") {
				message.Header.RCode = dnsmessage.RCodeNameError
			} else {
				message.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 1}, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}
			}
			if packed, err := message.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// get asks for a URL with headers, each as "Name: value".
func (p *proxy) get(t *testing.T, address string, headers ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	response, err := p.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}
