package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
)

// Usage asks for one sample: two, which Docker offers, take a second.
func (d *Docker) Usage(ctx context.Context, containerID string) (Usage, error) {
	answer, err := d.docker.ContainerStatsOneShot(ctx, containerID)
	if err != nil {
		return Usage{}, fmt.Errorf("measure container %.12s: %w", containerID, err)
	}
	defer answer.Body.Close()
	var stats container.StatsResponse
	if err := json.NewDecoder(answer.Body).Decode(&stats); err != nil {
		return Usage{}, fmt.Errorf("measure container %.12s: %w", containerID, err)
	}
	memory := stats.MemoryStats.Usage
	// The kernel gives up the pages of files that nobody has read lately; their name depends on its version of control groups.
	for _, name := range []string{"total_inactive_file", "inactive_file"} {
		if cache, there := stats.MemoryStats.Stats[name]; there {
			memory -= min(memory, cache)
			break
		}
	}
	return Usage{At: stats.Read, CPU: time.Duration(stats.CPUStats.CPUUsage.TotalUsage), MemoryBytes: int64(memory)}, nil
}
