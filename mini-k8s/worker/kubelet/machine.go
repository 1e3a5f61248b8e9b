package kubelet

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// What the kernel tells of the machine under /proc and /etc. Elsewhere than on Linux there are defaults: only hollow
// pods run there.
const defaultMemory = 8 << 30

// memoryBytes returns the machine's memory.
func memoryBytes() int64 {
	total := fields("/proc/meminfo", ":")["MemTotal"]
	if kib, err := strconv.ParseInt(strings.TrimSuffix(total, " kB"), 10, 64); err == nil {
		return kib << 10
	}
	return defaultMemory
}

func osImage() string {
	if name := fields("/etc/os-release", "=")["PRETTY_NAME"]; name != "" {
		return strings.Trim(name, `"`)
	}
	return runtime.GOOS
}

func kernelVersion() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// fields reads a file of "name<separator>value" lines; one that cannot be read has none.
func fields(path, separator string) map[string]string {
	found := map[string]string{}
	file, err := os.Open(path)
	if err != nil {
		return found
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), separator); ok {
			found[name] = strings.TrimSpace(value)
		}
	}
	return found
}
