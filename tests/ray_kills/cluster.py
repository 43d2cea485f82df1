"""A local Ray cluster in a process of its own: prints where it is, and ends when its input does."""

import sys

import ray


def main(processors: int) -> None:
    context = ray.init(
        address="local", num_cpus=processors, include_dashboard=False, object_store_memory=1 << 28, log_to_driver=False
    )
    print(context.address_info["gcs_address"], flush=True)
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
