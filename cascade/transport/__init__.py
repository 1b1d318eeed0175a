"""What the packages of the vendors' SDKs share: retrying, httpx2's errors, the endpoints that have answered.

Both SDKs stand on httpx2, and both have their own retries turned off.
"""
