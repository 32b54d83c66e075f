package access

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// names is the allow-list of host names: a page that points its own name at this
// machine's address (DNS rebinding) still calls us by that name. The value holds
// the ports under which a name is ours; nil is every port.
type names map[string][]string

// add allows "name" under every port, or "name:port" under that one, and returns
// the name as splitHost does. An IPv6 address without port needs no brackets.
func (n names) add(host string) (name string, ok bool) {
	if strings.Count(host, ":") > 1 && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	name, port, ok := splitHost(host)
	if !ok {
		return "", false
	}
	ports, known := n[name]
	switch {
	case port == "":
		n[name] = nil
	case !known || ports != nil:
		n[name] = append(ports, port)
		if port == "80" || port == "443" {
			n[name] = append(n[name], "") // browsers leave out their scheme's own port
		}
	}
	return name, true
}

// addListen allows the host that is listened on, unless that is every address.
func (n names) addListen(listen string) {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || host == "" {
		return
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		return
	}
	n.add(host)
}

// allow reports whether a request's Host is ours.
func (n names) allow(host string) bool {
	name, port, ok := splitHost(host)
	if !ok {
		return false
	}
	ports, known := n[name]
	return known && (ports == nil || slices.Contains(ports, port))
}

// splitHost takes a Host header apart (RFC 3986, section 3.2.2): the name in lower
// case without brackets and a last dot, an address in its shortest form, and the
// port, "" for none. It reports false for what is neither.
func splitHost(host string) (name, port string, ok bool) {
	name = host
	if end := strings.LastIndexByte(host, ']'); strings.HasPrefix(host, "[") && end > 0 {
		name, port = host[:end+1], host[end+1:]
	} else if i := strings.IndexByte(host, ':'); i >= 0 {
		name, port = host[:i], host[i:]
	}
	if port != "" {
		number, err := strconv.ParseUint(strings.TrimPrefix(port, ":"), 10, 16)
		if err != nil || port[0] != ':' || number == 0 {
			return "", "", false
		}
		port = strconv.FormatUint(number, 10)
	}
	if inner, bracketed := strings.CutPrefix(name, "["); bracketed {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", "", false
		}
		return ip.String(), port, true
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" || strings.HasSuffix(name, ".") || len(name) > 253 || strings.IndexFunc(name, notInName) >= 0 {
		return "", "", false
	}
	return name, port, true
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
}
